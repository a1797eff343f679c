// One loop for every method: slopes on log-probs, through the softmax, to θ, one update. The batch is all the data.

import { dpo, dpo_norm, dpop, ipo, kto, orpo, simpo } from './objectives.js';
import { divergence, logPolicy } from './policy.js';

export const METHODS = ['rlhf', 'dpo', 'ipo', 'kto', 'simpo', 'orpo', 'dpop', 'dpo_norm'];
const CLIP = 0.2; // PPO's
const INNER = 4; // updates on one set of rollouts, in PPO

/**
 * Train one method. Returns its log-probs at every step: path[t][i], t from 0 (π_ref) to `steps`.
 *
 * problem: { logRef, phi, counts, rows, rewards }; rows are shares of comparisons, rewards are the reward model's.
 */
export function train(method, problem, settings) {
  const slopes = SLOPES[method](problem, settings);
  let theta = new Array(problem.phi[0].length).fill(0);
  const update = settings.optimizer === 'adam' ? adam(theta.length, settings.rate) : descent(settings.rate);
  let logp = logPolicy(problem.logRef, problem.phi, theta);
  const path = [logp];
  for (let step = 0; step < settings.steps; step++) {
    theta = update(theta, toParameters(slopes(logp, step), logp, problem.phi));
    logp = logPolicy(problem.logRef, problem.phi, theta);
    path.push(logp);
  }
  return path;
}

/** d L / d θ from d L / d log π: through log-softmax (g_k - π_k Σ g), then Φᵀ. */
export function toParameters(g, logp, phi) {
  let total = 0;
  for (const value of g) total += value;
  const out = new Array(phi[0].length).fill(0);
  for (let i = 0; i < g.length; i++) {
    const z = g[i] - Math.exp(logp[i]) * total;
    for (let k = 0; k < out.length; k++) out[k] += phi[i][k] * z;
  }
  return out;
}

/** The settings that a method's training depends on, besides the problem. */
const COMMON = ['steps', 'rate', 'optimizer'];
export const USES = {
  rlhf: [...COMMON, 'beta', 'rl'],
  dpo: [...COMMON, 'beta'],
  ipo: [...COMMON, 'beta', 'normalize'],
  kto: [...COMMON, 'beta', 'lambdaD', 'lambdaU', 'z0'],
  simpo: [...COMMON, 'simpoBeta', 'gammaRatio'],
  orpo: [...COMMON, 'orpoWeight'],
  dpop: [...COMMON, 'beta', 'dpopPenalty'],
  dpo_norm: [...COMMON, 'normBeta'],
};

/** For each method, (problem, settings) -> (log π, step) -> d L / d log π of the K answers. */
export const SLOPES = {
  rlhf: (problem, settings) => (settings.rl === 'ppo' ? clipped : exact)(problem, settings.beta),
  dpo: (problem, { beta }) => overPairs(problem, dpo, { beta }),
  ipo: (problem, { beta, normalize }) => overPairs(problem, ipo, { beta, normalize }),
  simpo: (problem, s) => overPairs(problem, simpo, { beta: s.simpoBeta, gammaRatio: s.gammaRatio }),
  orpo: (problem, s) => overPairs(problem, orpo, { weight: s.orpoWeight }),
  dpop: (problem, s) => overPairs(problem, dpop, { beta: s.beta, penalty: s.dpopPenalty }),
  dpo_norm: (problem, s) => overPairs(problem, dpo_norm, { beta: s.normBeta }),
  kto: (problem, settings) => overLabels(problem, settings),
};

function overPairs({ logRef, counts, rows }, objective, options) {
  const w = { policy: 0, reference: 0, count: 1 };
  const l = { policy: 0, reference: 0, count: 1 };
  return (logp) => {
    const g = new Array(logp.length).fill(0);
    for (const row of rows) {
      place(w, row.w, logp, logRef, counts);
      place(l, row.l, logp, logRef, counts);
      const found = objective(w, l, options);
      g[row.w] += row.share * found[1];
      g[row.l] += row.share * found[2];
    }
    return g;
  };
}

/**
 * KTO: a pair is two labels. Its z0 estimates KL(π‖π_ref) from answers to other prompts; here, with one prompt, the KL
 * itself is known and taken, unless a value is given. No gradient goes through it.
 */
function overLabels({ logRef, counts, rows }, { beta, lambdaD, lambdaU, z0 }) {
  const y = { policy: 0, reference: 0, count: 1 };
  return (logp) => {
    const g = new Array(logp.length).fill(0);
    const options = { beta, lambdaD, lambdaU, z0: z0 ?? divergence(logp, logRef) };
    for (const row of rows) {
      place(y, row.w, logp, logRef, counts);
      g[row.w] += (row.share / 2) * kto(y, true, options)[1];
      place(y, row.l, logp, logRef, counts);
      g[row.l] += (row.share / 2) * kto(y, false, options)[1];
    }
    return g;
  };
}

function place(answer, i, logp, logRef, counts) {
  answer.policy = logp[i];
  answer.reference = logRef[i];
  answer.count = counts[i];
}

/** Policy gradient with nothing sampled: d/d log π_i of -(E[r̂] - β KL), up to what the softmax removes. */
function exact({ logRef, rewards }, beta) {
  return (logp) => logp.map((value, i) => -Math.exp(value) * (rewards[i] - beta * (value - logRef[i])));
}

/**
 * PPO: E_old[min(ρA, clip(ρ)A)], ρ = π/π_old, A = r̂ - β log(π_old/π_ref) less its mean, the KL inside the reward as
 * usual. The expectation is exact; rollouts are renewed every INNER updates.
 */
function clipped({ logRef, rewards }, beta) {
  let old = null;
  let advantage = null;
  return (logp, step) => {
    if (step % INNER === 0) {
      old = logp;
      const value = old.map((v, i) => rewards[i] - beta * (v - logRef[i]));
      const mean = old.reduce((total, v, i) => total + Math.exp(v) * value[i], 0);
      advantage = value.map((v) => v - mean);
    }
    return logp.map((v, i) => {
      const ratio = Math.exp(v - old[i]);
      const held = advantage[i] > 0 ? ratio > 1 + CLIP : ratio < 1 - CLIP;
      return held ? 0 : -Math.exp(v) * advantage[i];
    });
  };
}

function descent(rate) {
  return (theta, g) => theta.map((value, k) => value - rate * g[k]);
}

/** Adam (Kingma and Ba 2015) with its usual constants: one rate suits losses of any scale. */
function adam(size, rate) {
  const m = new Array(size).fill(0);
  const v = new Array(size).fill(0);
  let powers = [1, 1];
  return (theta, g) => {
    powers = [powers[0] * 0.9, powers[1] * 0.999];
    return theta.map((value, k) => {
      m[k] = 0.9 * m[k] + 0.1 * g[k];
      v[k] = 0.999 * v[k] + 0.001 * g[k] * g[k];
      return value - (rate * m[k]) / (1 - powers[0]) / (Math.sqrt(v[k] / (1 - powers[1])) + 1e-8);
    });
  };
}
