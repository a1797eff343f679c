// One pair's margin over training: who stops, and where.

import { pairMargin } from '../derive.js';
import { Plot } from '../plot.js';
import { NAMES, letter, short } from '../words.js';

export const margins = {
  id: 'margins',
  title: 'DPO runs away; IPO stops at 1/(2β)',
  says: 'h of one pair: by how many nats the policy prefers the chosen answer more than the start did.',
  controls: ['deterministic', 'beta', 'pair'],
  draw(element, { state, derived, t, run }, width) {
    const [w, l] = state.pair;
    const target = 1 / (2 * state.beta);
    const lines = state.methods.map((method) => ({ method, points: derived.paths[method].map((logp, step) => [step, pairMargin(logp, derived.logRef, state.pair)]) }));
    const heights = lines.flatMap(({ points }) => points.map(([, h]) => h));
    const plot = new Plot(width, 270, {
      x: [0, state.steps * 1.12], y: [Math.min(0, ...heights), 1.08 * Math.max(target * 1.2, ...heights)], xLabel: 'step', yLabel: `margin h of ${letter(w)}≻${letter(l)}, nats`, top: 22,
    });
    plot.level(target, 'm-ipo dashed').text(0, target, `1/(2β) = ${short(target)}`, 'm-ipo', { dx: 6, dy: -6 }).upright(t, 'now');
    const shown = Math.round(t) + 1;
    for (const { method, points } of lines) plot.line(points.slice(0, shown), `${method === 'dpo' || method === 'ipo' ? 'strong' : 'faint'} m-${method}`);
    const ends = lines.map(({ method, points }) => ({ x: t, y: points[Math.min(shown, points.length) - 1][1], text: NAMES[method], kind: `strong m-${method}` }));
    if (run?.margins?.length) {
      const scaled = run.margins.map(([share, h]) => [share * state.steps, h]);
      plot.line(scaled, 'strong m-run');
      ends.push({ x: state.steps, y: scaled.at(-1)[1], text: 'your run', kind: 'strong m-run' });
    }
    plot.labels(ends);
    const says = lines.map(({ method, points }) => `${NAMES[method]} ${short(points[Math.min(Math.round(t), points.length - 1)][1])}`);
    plot.into(element, `Margin of ${letter(w)} over ${letter(l)} in nats, IPO's target ${short(target)}: ${says.join(', ')}.`);
  },
};
