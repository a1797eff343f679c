// A policy over K answers to one prompt: log π = log π_ref + Φ θ, normalised. Φ is the identity (each answer for
// itself) or the answers' two features (what moves one answer moves those that look like it).

import { dot, logSoftmax, sum } from './numbers.js';

/** Φ as K rows: unit vectors, or the features. */
export function design(answers, shares) {
  if (shares === 'features') return answers.map((answer) => answer.features);
  return answers.map((_, i) => answers.map((_, k) => (i === k ? 1 : 0)));
}

/** log π_ref of the answers, normalised. */
export function logReference(answers) {
  const total = sum(answers.map((answer) => answer.ref));
  return answers.map((answer) => Math.log(answer.ref / total));
}

/** log π at θ. */
export function logPolicy(logRef, phi, theta) {
  return logSoftmax(logRef.map((value, i) => value + dot(phi[i], theta)));
}

/** π* ∝ π_ref · exp(r / β), as log-probs: where reward under a KL penalty of weight β is greatest. */
export function optimum(logRef, rewards, beta) {
  return logSoftmax(logRef.map((value, i) => value + rewards[i] / beta));
}

/** KL(π‖π_ref) in nats. */
export function divergence(logp, logRef) {
  let total = 0;
  for (let i = 0; i < logp.length; i++) total += Math.exp(logp[i]) * (logp[i] - logRef[i]);
  return Math.max(0, total);
}

/** E_π[values]. */
export function expectation(logp, values) {
  let total = 0;
  for (let i = 0; i < logp.length; i++) total += Math.exp(logp[i]) * values[i];
  return total;
}

/**
 * Points of the frontier: the most reward that each KL can buy, from π_ref outwards as β falls.
 * With `seen` given, π* follows it while `rewards` are still those measured: what over-optimisation looks like.
 */
export function frontier(logRef, rewards, seen = rewards, points = 70) {
  const spread = Math.max(...seen) - Math.min(...seen) || 1;
  const out = [{ beta: Infinity, kl: 0, reward: expectation(logRef, rewards), seen: expectation(logRef, seen) }];
  for (let k = 0; k < points; k++) {
    const beta = spread * 10 ** (1 - (3 * k) / (points - 1)); // from ten times the spread to a hundredth of it
    const logp = optimum(logRef, seen, beta);
    out.push({ beta, kl: divergence(logp, logRef), reward: expectation(logp, rewards), seen: expectation(logp, seen) });
  }
  return out;
}
