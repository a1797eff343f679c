// ORPO's odds: a slope where they are taken per token, a cliff where log-probs are summed.

import { logOdds, sigmoid } from '../math/numbers.js';
import { Plot } from '../plot.js';
import { letter, short } from '../words.js';

// A language model's answers have about one nat a token, hundreds in all; those of this small world have a few nats in
// all, where the two look alike. So the chosen answer stands here at a language model's level.
const CHOSEN = -1;
const LOW = -3;
const SATURATED = 1e-3;

export const odds = {
  id: 'odds',
  title: 'ORPO: take the odds per token, or fall off a cliff',
  says: 'How hard the odds ratio pulls on a pair whose chosen answer has −1 nat a token, as language models have. From sums, as often coded, it is off or all on: a hinge on length.',
  controls: ['orpoWeight', 'pair'],
  draw(element, { state, derived }, width) {
    const [w, l] = state.pair;
    const [countW, countL] = [derived.tokens[w], derived.tokens[l]];
    const means = (x) => state.orpoWeight * sigmoid(logOdds(x) - logOdds(CHOSEN));
    const sums = (x) => state.orpoWeight * sigmoid(logOdds(x * countL) - logOdds(CHOSEN * countW));
    const top = 1.12 * state.orpoWeight;
    const plot = new Plot(width, 260, { x: [LOW, 0], y: [0, top], xLabel: 'log-prob of the rejected answer, per token', yLabel: 'pull = λ σ(−log-odds ratio)', top: 22, left: 46 });
    const grid = Array.from({ length: 301 }, (_, k) => LOW + ((-0.002 - LOW) * k) / 300);
    const dead = grid.filter((x) => sums(x) < SATURATED * state.orpoWeight).at(-1);
    if (dead > LOW) {
      plot.area([[LOW, top], [dead, top]], [[LOW, 0], [dead, 0]], 'dead');
      plot.text(LOW, 0, 'summed: saturated, no gradient', 'soft', { dx: 6, dy: -8 });
    }
    plot.line(grid.map((x) => [x, means(x)]), 'strong m-orpo').line(grid.map((x) => [x, sums(x)]), 'dashed m-orpo');
    const cliff = Math.max(LOW, (CHOSEN * countW) / countL);
    plot.upright(cliff, 'level').text(cliff, state.orpoWeight, `cliff at −${countW}/${countL} tokens`, 'm-orpo', { dx: cliff > -1 ? -6 : 6, dy: -4, anchor: cliff > -1 ? 'end' : 'start' });
    plot.text(-2.2, means(-2.2), 'per token (ORPO)', 'strong m-orpo', { dy: -10, anchor: 'middle' });
    plot.into(element, `Pull of the odds ratio on ${letter(w)} over ${letter(l)}, rejected at -1.5 nats a token: per token ${short(means(-1.5))}, from sums ${short(sums(-1.5))}.`);
  },
};
