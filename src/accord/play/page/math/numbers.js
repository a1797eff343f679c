// Arithmetic that value and gradient survive: the same branches as accord/objectives/numerics.py.

export const CERTAIN = -1e-12; // a mean log-prob above this is rounding, and its odds would be infinite

export function sigmoid(x) {
  const small = Math.exp(-Math.abs(x));
  return (x >= 0 ? 1 : small) / (1 + small);
}

/** log(1 + exp x), which is -log σ(-x). */
export function softplus(x) {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

/** log(1 - exp x) for x < 0 in two branches that meet at -ln 2 (Mächler 2012, Eq. 7). */
export function log1mexp(x) {
  return x > -Math.LN2 ? Math.log(-Math.expm1(x)) : Math.log1p(-Math.exp(x));
}

/** log(p / (1 - p)) of p = exp(mean), in nats. */
export function logOdds(mean) {
  const held = Math.min(mean, CERTAIN);
  return held - log1mexp(held);
}

export function sum(values) {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

/** Σ a_i b_i */
export function dot(a, b) {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += a[i] * b[i];
  return total;
}

/** Log-probabilities from logits, normalised. */
export function logSoftmax(logits) {
  const top = Math.max(...logits);
  let total = 0;
  for (const logit of logits) total += Math.exp(logit - top);
  const norm = top + Math.log(total);
  return logits.map((logit) => logit - norm);
}

/** x with A x = b, by elimination with pivoting. A is square and is overwritten, b too. */
export function solve(A, b) {
  const n = b.length;
  for (let k = 0; k < n; k++) {
    let pivot = k;
    for (let i = k + 1; i < n; i++) if (Math.abs(A[i][k]) > Math.abs(A[pivot][k])) pivot = i;
    [A[k], A[pivot], b[k], b[pivot]] = [A[pivot], A[k], b[pivot], b[k]];
    for (let i = k + 1; i < n; i++) {
      const by = A[i][k] / A[k][k];
      for (let j = k; j < n; j++) A[i][j] -= by * A[k][j];
      b[i] -= by * b[k];
    }
  }
  for (let k = n - 1; k >= 0; k--) {
    for (let j = k + 1; j < n; j++) b[k] -= A[k][j] * b[j];
    b[k] /= A[k][k];
  }
  return b;
}

/** Uniform numbers in [0, 1) from a 32-bit seed (mulberry32): the same comparisons for everyone who opens a link. */
export function random(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
