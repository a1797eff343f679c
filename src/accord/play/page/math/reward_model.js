// A reward model fitted to the comparisons: Bradley-Terry, scores r̂ = Φ v, by Newton's method.

import { dot, sigmoid, solve } from './numbers.js';

// Keeps scores finite where labels never contradict each other, and fixes what comparisons leave open (adding a
// constant to every score changes no comparison). Per row of data, so small that 2,000 rows outweigh it by far.
export const RIDGE = 1e-5;
const ITERATIONS = 25;

/** Scores of the K answers, centred. */
export function fitRewards(phi, rows) {
  const size = phi[0].length;
  let v = new Array(size).fill(0);
  for (let step = 0; step < ITERATIONS; step++) {
    const { gradient, hessian } = derivatives(phi, rows, v);
    const move = solve(hessian, gradient);
    // A Newton step from far away may overshoot: no more than 4 nats at once.
    const scale = Math.min(1, 4 / Math.max(1e-12, ...move.map(Math.abs)));
    v = v.map((value, k) => value - scale * move[k]);
    if (Math.max(...move.map(Math.abs)) < 1e-10) break;
  }
  const scores = phi.map((features) => dot(features, v));
  const mean = scores.reduce((a, b) => a + b) / scores.length;
  return scores.map((score) => score - mean);
}

/** Gradient and Hessian of Σ share · -log σ(r̂_w - r̂_l) + RIDGE/2 |v|². */
function derivatives(phi, rows, v) {
  const size = v.length;
  const gradient = v.map((value) => RIDGE * value);
  const hessian = v.map((_, k) => v.map((_, m) => (k === m ? RIDGE : 0)));
  for (const { w, l, share } of rows) {
    const x = phi[w].map((value, k) => value - phi[l][k]);
    const miss = sigmoid(-dot(x, v));
    for (let k = 0; k < size; k++) {
      gradient[k] -= share * miss * x[k];
      for (let m = 0; m < size; m++) hessian[k][m] += share * miss * (1 - miss) * x[k] * x[m];
    }
  }
  return { gradient, hessian };
}
