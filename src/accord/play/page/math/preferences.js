// Comparisons of answers, two at a time, as Bradley and Terry would have them.

import { random, sigmoid } from './numbers.js';

/** P(i ≻ j) of one comparison, before and after label noise. */
export function preference(i, j, answers, { deterministic, lengthBias, noise }) {
  const gap = answers[i].reward - answers[j].reward + lengthBias * Math.log(answers[i].tokens / answers[j].tokens);
  const sure = gap > 0 ? 1 : gap < 0 ? 0 : 0.5;
  const clean = deterministic ? sure : sigmoid(gap);
  return { clean, noisy: clean * (1 - noise) + (1 - clean) * noise };
}

/** The pairs [i, j], i < j, that are ever compared. */
export function compared(count, never) {
  const left = new Set(never.map(([i, j]) => `${i},${j}`));
  const out = [];
  for (let i = 0; i < count; i++) for (let j = i + 1; j < count; j++) if (!left.has(`${i},${j}`)) out.push([i, j]);
  return out;
}

/**
 * The comparisons as shares: [{ w, l, share }], shares summing to 1, answer w preferred to l.
 *
 * `comparisons` draws as many, spread evenly over the pairs; 0 takes the exact probabilities, as from endless data.
 * Equal rows are counted, not repeated: a full batch of 10,000 rows costs no more than one of 50.
 */
export function comparisons(answers, settings) {
  const pairs = compared(answers.length, settings.never);
  const draw = random(settings.seed);
  const wins = new Map();
  const add = (w, l, by) => by > 0 && wins.set(`${w},${l}`, (wins.get(`${w},${l}`) ?? 0) + by);
  pairs.forEach(([i, j], k) => {
    const p = preference(i, j, answers, settings).noisy;
    const n = settings.comparisons === 0 ? 1 : Math.floor((settings.comparisons + pairs.length - 1 - k) / pairs.length);
    let won = settings.comparisons === 0 ? p : 0;
    if (settings.comparisons > 0) for (let row = 0; row < n; row++) won += draw() < p ? 1 : 0;
    add(i, j, won);
    add(j, i, n - won);
  });
  let total = 0;
  for (const count of wins.values()) total += count;
  return [...wins].map(([key, count]) => {
    const [w, l] = key.split(',').map(Number);
    return { w, l, count, share: count / total };
  });
}
