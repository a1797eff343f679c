// ORPO's odds: a slope where they are taken per token, a cliff where log-probs are summed.

import { CERTAIN, logOdds, sigmoid } from '../math/numbers.js';
import { Plot } from '../plot.js';
import { letter, short } from '../words.js';

export const odds = {
  id: 'odds',
  title: 'ORPO: take the odds per token, or fall off a cliff',
  says: 'How hard the odds ratio pulls on one pair, as the rejected answer’s per-token log-prob moves. From sums, as often coded, it is either off or all on: a hinge on length.',
  controls: ['orpoWeight', 'pair'],
  draw(element, { state, derived, t }, width) {
    const [w, l] = state.pair;
    const logp = state.methods.includes('orpo') ? derived.at('orpo', t) : derived.logRef;
    const [countW, countL] = [derived.tokens[w], derived.tokens[l]];
    const chosen = Math.min(logp[w] / countW, CERTAIN);
    const low = Math.min(-3, 1.6 * chosen);
    const means = (x) => sigmoid(logOdds(x) - logOdds(chosen));
    const sums = (x) => sigmoid(logOdds(x * countL) - logOdds(chosen * countW));
    const plot = new Plot(width, 260, { x: [low, 0], y: [0, 1.05], xLabel: `log π(${letter(l)}) per token, rejected`, yLabel: 'pull of the odds ratio', top: 20 });
    const grid = Array.from({ length: 241 }, (_, k) => low + ((-0.002 - low) * k) / 240);
    const dead = grid.filter((x) => sums(x) < 1e-3).at(-1);
    if (dead > low) plot.area([[low, 1.05], [dead, 1.05]], [[low, 0], [dead, 0]], 'dead').text(low, 0, 'summed: no gradient here', 'soft', { dx: 6, dy: -8 });
    plot.line(grid.map((x) => [x, means(x)]), 'strong m-orpo').line(grid.map((x) => [x, sums(x)]), 'dashed m-orpo').upright(chosen, 'level');
    const x = Math.max(low, Math.min(-0.002, logp[l] / countL));
    plot.dot(x, means(x), 'm-orpo', 5.5).dot(x, sums(x), 'm-orpo ring', 6);
    plot.text(low, 1, '— per token (ORPO)', 'm-orpo', { dx: 6, dy: 10 }).text(low, 1, '- - summed (a common mistake)', 'm-orpo', { dx: 6, dy: 26 });
    plot.text(chosen, 0.5, `${letter(w)}, chosen`, 'soft', { dx: -5, anchor: 'end' });
    plot.into(element, `Pull of the odds ratio on ${letter(w)} over ${letter(l)}: per token ${short(means(x))}, from sums ${short(sums(x))}.`);
  },
};
