// Reward against distance: the frontier, the optimum with its tangent of slope β, and every method's way.

import { Plot } from '../plot.js';
import { NAMES, short } from '../words.js';

const MOST_WIDE = 3; // times what the methods need, for a run of one's own

export const plane = {
  id: 'plane',
  title: 'How much reward, how far from the start?',
  says: 'Each method’s way through training. The grey edge is the most reward that any policy can have at that distance.',
  draw(element, { state, derived, t, run }, width) {
    const ways = state.methods.map((method) => ({ method, way: derived.ways[method].map(({ kl, reward }) => [kl, reward]) }));
    const curve = derived.frontier.map(({ kl, reward }) => [kl, reward]);
    const all = [...curve, ...ways.flatMap(({ way }) => way)];
    const near = 1.04 * Math.max(0.2, ...all.map(([kl]) => kl));
    // A run that went further makes the plane wider, up to a point: a language model's KL can be a hundredfold.
    const far = Math.max(near, Math.min(MOST_WIDE * near, 1.04 * Math.max(0, ...(run?.plane ?? []).map(([kl]) => kl))));
    const rewards = all.map(([, reward]) => reward);
    const [low, high] = [Math.min(...rewards), Math.max(...rewards)];
    const room = 0.08 * (high - low || 1);
    const plot = new Plot(width, Math.max(300, Math.min(440, width * 0.82)), {
      x: [0, far], y: [low - room, high + room], xLabel: 'KL from the start, nats', yLabel: 'true reward E[r]', right: 18, top: 26, left: 36,
    });
    const beyond = [...curve, [far, curve.at(-1)[1]]];
    plot.area(beyond, beyond.map(([kl]) => [kl, low - room]), 'reach').line(beyond, 'frontier');
    plot.text(far, curve.at(-1)[1], 'no policy gets above this line', 'soft', { dx: -2, dy: -8, anchor: 'end' });
    tangent(plot, derived, state.beta, far);
    const shown = Math.round(t);
    for (const { method, way } of ways) plot.line(way.slice(0, shown + 1), `way m-${method}`);
    if (run?.plane?.length) ownRun(plot, run.plane, far);
    plot.dot(0, derived.reward(derived.logRef), 'm-ref', 5);
    const ends = ways.map(({ method, way }) => ({ method, at: way[Math.min(shown, way.length - 1)] }));
    for (const { method, at } of ends) plot.dot(...at, `m-${method}`, 5.5);
    plot.labels(ends.map(({ method, at }) => ({ x: at[0], y: at[1], text: NAMES[method], kind: `strong m-${method}` })));
    plot.into(element, `True reward and KL after ${shown} steps. ${ends.map(({ method, at }) => `${NAMES[method]}: reward ${short(at[1])}, KL ${short(at[0])} nats`).join('; ')}.`);
  },
};

/** The slope of the frontier at π* is β: what one more nat of KL is worth there. */
function tangent(plot, derived, beta, far) {
  const [kl, reward] = [derived.kl(derived.star), derived.reward(derived.star)];
  const reach = Math.min(0.22 * far, (0.3 * (plot.yRange[1] - plot.yRange[0])) / beta);
  const ends = [kl - Math.min(reach, kl), kl + reach].map((x) => [x, reward + beta * (x - kl)]);
  plot.line(ends, 'tangent').dot(kl, reward, 'm-star ring', 7);
  // On the left of the tangent where there is room, else under it; far out, the words about the frontier stand above.
  const share = kl / far;
  const at = share > 0.68 ? { dx: 4, dy: 24, anchor: 'end' } : plot.x(kl) > 190 ? { dx: -12, dy: -12, anchor: 'end' } : { dx: 12, dy: 20 };
  plot.text(kl, reward, `π*  slope β = ${short(beta)}`, 'm-star', at);
}

/** A run has no true reward: its held-out accuracy stands on a scale of its own, ½ at the foot and 1 at the top. */
function ownRun(plot, points, far) {
  const [low, high] = plot.yRange;
  const scaled = points.filter(([kl]) => kl <= far).map(([kl, accuracy]) => [kl, low + (2 * accuracy - 1) * (high - low)]);
  plot.line(scaled, 'way m-run');
  for (const point of scaled) plot.dot(...point, 'm-run', 3);
  const [kl, accuracy] = points.at(-1);
  const [x, y] = scaled.at(-1) ?? [far, low];
  plot.labels([{ x, y, text: `your run: accuracy ${short(accuracy)}, KL ${short(kl)}`, kind: 'strong m-run' }]);
}
