// KTO's value of an answer: a sigmoid around the reference point, louder for losses where λ_U is.

import { sigmoid } from '../math/numbers.js';
import { Plot } from '../plot.js';
import { letter, short } from '../words.js';

export const kto = {
  id: 'kto',
  title: 'KTO: every answer is a gain or a loss',
  says: 'Value of a good answer rises with its log-ratio, of a bad one falls; both saturate, and steepest is at z0, the KL so far. Dots: the answers now.',
  controls: ['lambdaD', 'lambdaU', 'z0'],
  draw(element, { state, derived, t }, width) {
    const logp = state.methods.includes('kto') ? derived.at('kto', t) : derived.logRef;
    const ratios = logp.map((value, i) => value - derived.logRef[i]);
    const z0 = state.z0 ?? derived.kl(logp);
    const reach = Math.max(6, 3 / state.beta, Math.min(12, Math.max(...ratios.map(Math.abs))));
    const good = (r) => state.lambdaD * sigmoid(state.beta * (r - z0));
    const bad = (r) => state.lambdaU * sigmoid(state.beta * (z0 - r));
    const plot = new Plot(width, 260, { x: [-reach, reach], y: [0, 1.3 * Math.max(state.lambdaD, state.lambdaU)], xLabel: 'log π − log π_ref, nats', yLabel: 'value', top: 20 });
    const grid = Array.from({ length: 81 }, (_, k) => -reach + (2 * reach * k) / 80);
    plot.upright(z0, 'm-kto dotted').text(z0, 0, `z0 = ${short(z0)}`, 'm-kto', { dx: 5, dy: -6 });
    plot.line(grid.map((r) => [r, good(r)]), 'strong m-kto').line(grid.map((r) => [r, bad(r)]), 'dashed m-kto');
    ratios.forEach((r, i) => {
      plot.dot(r, good(r), 'm-kto', 5).dot(r, bad(r), 'm-kto ring', 5);
      plot.text(r, good(r), letter(i), 'm-kto', { dy: -9, anchor: 'middle' });
    });
    plot.text(reach, good(reach), 'good: λ_D σ(β(r − z0))', 'm-kto', { dy: -8, anchor: 'end' });
    plot.text(-reach, bad(-reach), 'bad: λ_U σ(β(z0 − r))', 'm-kto', { dx: 6, dy: -10 });
    const flips = state.lambdaU / (state.lambdaD + state.lambdaU);
    plot.text(-reach, plot.yRange[1], `an answer rises if it is good more than ${Math.round(100 * flips)} % of the time`, 'soft', { dx: 6, dy: 10 });
    plot.into(element, `KTO values around z0 = ${short(z0)}: an answer rises if it is labelled good more than ${Math.round(100 * flips)} percent of the time.`);
  },
};
