// Length: what each method calls "chosen is ahead", and how long the policies' answers become.

import { Plot } from '../plot.js';
import { NAMES, letter, short } from '../words.js';

export const boundaries = {
  id: 'boundaries',
  title: 'Who counts tokens: DPO, normalised DPO, SimPO',
  says: 'Per-token log-prob of one pair. Below its line, a method takes the chosen answer to be ahead. Sums tilt the line by the lengths; SimPO moves it by γ/β and forgets the start.',
  controls: ['simpoBeta', 'gammaRatio', 'normBeta', 'pair'],
  draw(element, { state, derived, t }, width) {
    const [w, l] = state.pair;
    const mean = (logp) => [logp[w] / derived.tokens[w], logp[l] / derived.tokens[l]];
    const start = mean(derived.logRef);
    const shown = ['dpo', 'dpo_norm', 'simpo', 'orpo'].filter((method) => state.methods.includes(method)).map((method) => ({ method, at: mean(derived.at(method, t)) }));
    const low = Math.max(-3, 1.3 * Math.min(-0.2, -state.gammaRatio, ...start, ...shown.flatMap(({ at }) => at)));
    const plot = new Plot(width, 324, { x: [low, 0], y: [low, 0], xLabel: `log π(${letter(w)}) per token, chosen`, yLabel: `log π(${letter(l)}) per token, rejected`, left: 46, top: 72 });
    const tilt = derived.tokens[w] / derived.tokens[l];
    boundary(plot, (x) => start[1] + tilt * (x - start[0]), low, 'strong m-dpo');
    boundary(plot, (x) => start[1] + x - start[0], low, 'dashed m-dpo_norm');
    boundary(plot, (x) => x - state.gammaRatio, low, 'strong m-simpo');
    plot.dot(...start, 'm-ref', 5).text(...start, 'start', 'm-ref', { dx: -8, dy: 14, anchor: 'end' });
    for (const { method, at } of shown) plot.line([start, at], `faint m-${method}`).dot(...at, `m-${method}`, 5);
    plot.labels(shown.map(({ method, at }) => ({ x: at[0], y: at[1], text: NAMES[method], kind: `strong m-${method}` })));
    // Above the plot: the lines cross it anywhere.
    plot.text(low, 0, `— DPO’s line, slope ${derived.tokens[w]}/${derived.tokens[l]} tokens`, 'm-dpo', { dy: -42 });
    plot.text(low, 0, '- - DPO-norm’s, slope 1', 'm-dpo_norm', { dy: -26 });
    plot.text(low, 0, `— SimPO’s, γ/β = ${short(state.gammaRatio)} below the diagonal`, 'm-simpo', { dy: -10 });
    plot.into(element, `Decision boundaries of ${letter(w)} over ${letter(l)}: DPO's has slope ${short(tilt)}, normalised DPO's slope 1, SimPO's lies ${short(state.gammaRatio)} below the diagonal.`);
  },
};

/** The part of a line that lies inside the square. */
function boundary(plot, of, low, kind) {
  const grid = Array.from({ length: 101 }, (_, k) => low - (low * k) / 100).map((x) => [x, of(x)]);
  plot.line(grid.filter(([, y]) => y >= low && y <= 0), kind);
}

export const lengths = {
  id: 'lengths',
  title: 'How long do the answers get?',
  says: 'Expected tokens of an answer over training. “Love of length” makes annotators prefer longer answers, whatever their quality.',
  controls: ['lengthBias', 'orpoWeight'],
  draw(element, { state, derived, t }, width) {
    const start = derived.length(derived.logRef);
    const lines = state.methods.map((method) => ({ method, points: derived.ways[method].map(({ tokens }, step) => [step, tokens]) }));
    const values = lines.flatMap(({ points }) => points.map(([, tokens]) => tokens));
    const plot = new Plot(width, 260, { x: [0, state.steps * 1.2], y: [0.9 * Math.min(start, ...values), 1.06 * Math.max(start, ...values)], xLabel: 'step', yLabel: 'tokens an answer', top: 22 });
    plot.level(start).text(0, start, `start ${short(start)}`, 'soft', { dx: 6, dy: -5 }).upright(t, 'now');
    const shown = Math.round(t) + 1;
    for (const { method, points } of lines) plot.line(points.slice(0, shown), `strong m-${method}`);
    plot.labels(lines.map(({ method, points }) => ({ x: t, y: points[Math.min(shown, points.length) - 1][1], text: NAMES[method], kind: `strong m-${method}` })));
    plot.into(element, `Expected tokens, ${short(start)} at the start. ${lines.map(({ method, points }) => `${NAMES[method]} ${short(points[Math.min(shown, points.length) - 1][1])}`).join(', ')}.`);
  },
};
