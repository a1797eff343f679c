// Everything that follows from the state, computed at once: data, reward model, every method's training.

import { comparisons, compared } from './math/preferences.js';
import { design, divergence, expectation, frontier, logReference, optimum } from './math/policy.js';
import { fitRewards } from './math/reward_model.js';
import { USES, train } from './math/train.js';

/**
 * The state's consequences. `paths[method][t][i]` is log π of answer i after t updates; `at(method, t)` takes any t;
 * `ways[method][t]` is where that is: { kl, reward, seen (by the reward model), tokens }.
 * The frontier uses the true rewards; `hacked` follows the reward model's favourite and measures both.
 */
export function derive(state) {
  const { answers } = state;
  const rewards = answers.map((one) => one.reward);
  const tokens = answers.map((one) => one.tokens);
  const logRef = logReference(answers);
  const phi = design(answers, state.shares);
  const rows = comparisons(answers, state);
  const learned = fitRewards(phi, rows);
  const problem = { logRef, phi, counts: tokens, rows, rewards: learned };
  const paths = Object.fromEntries(state.methods.map((method) => [method, trained(method, problem, state)]));
  const measures = { rewards, learned, tokens, logRef };
  const ways = Object.fromEntries(state.methods.map((method) => [method, paths[method].map((logp) => measured(logp, measures))]));
  const at = (method, t) => paths[method][Math.max(0, Math.min(paths[method].length - 1, Math.round(t)))];
  return {
    rewards, tokens, logRef, rows, learned, paths, ways, at,
    pairs: compared(answers.length, state.never),
    star: optimum(logRef, rewards, state.beta),
    frontier: frontier(logRef, rewards),
    hacked: frontier(logRef, rewards, learned),
    reward: (logp) => expectation(logp, rewards),
    length: (logp) => expectation(logp, tokens),
    kl: (logp) => divergence(logp, logRef),
  };
}

const kept = new Map(); // method -> { key, path } of its last training

/** The path of a method, trained anew only where something that it depends on has moved: a drag of β leaves SimPO alone. */
function trained(method, problem, state) {
  const { rewards, ...data } = problem;
  const key = JSON.stringify([data, method === 'rlhf' ? rewards : null, USES[method].map((name) => state[name])]);
  if (kept.get(method)?.key !== key) kept.set(method, { key, path: train(method, problem, state) });
  return kept.get(method).path;
}

/** All four figures of one policy in one pass: a drag measures thousands of policies a frame. */
function measured(logp, { rewards, learned, tokens, logRef }) {
  const out = { kl: 0, reward: 0, seen: 0, tokens: 0 };
  for (let i = 0; i < logp.length; i++) {
    const p = Math.exp(logp[i]);
    out.kl += p * (logp[i] - logRef[i]);
    out.reward += p * rewards[i];
    out.seen += p * learned[i];
    out.tokens += p * tokens[i];
  }
  out.kl = Math.max(0, out.kl);
  return out;
}

/** h of the pair (w, l): by how many nats the policy prefers w more than the reference does. */
export function pairMargin(logp, logRef, [w, l]) {
  return logp[w] - logRef[w] - (logp[l] - logRef[l]);
}

/** Share of the comparisons that the policy's log-ratios rank as labelled; ties count half, as in accord. */
export function accuracy(logp, { logRef, rows }) {
  let total = 0;
  for (const { w, l, share } of rows) {
    const h = pairMargin(logp, logRef, [w, l]);
    total += share * (Math.abs(h) < 1e-12 ? 0.5 : h > 0 ? 1 : 0);
  }
  return total;
}
