// Over-optimisation: what the reward model sees, and what is true, as the policy goes where the model points.

import { Plot } from '../plot.js';
import { short } from '../words.js';

export const hacking = {
  id: 'hacking',
  title: 'Push on a learned reward and it breaks',
  says: 'RLHF’s way on both scales. Dashed: reward as its model sees it. Solid: true reward. Where they part, the model is exploited. Faint: where smaller β leads.',
  controls: ['beta', 'noise', 'seed'],
  draw(element, { derived, t, predicting }, width) {
    const ideal = derived.hacked;
    const offset = ideal[0].reward - ideal[0].seen; // rewards are known up to a constant: both begin at the same height
    const way = derived.ways.rlhf ?? [];
    const all = [...ideal, ...way];
    const heights = all.flatMap(({ reward, seen }) => [reward, seen + offset]);
    const plot = new Plot(width, 270, { x: [0, 1.25 * Math.max(0.2, ...all.map(({ kl }) => kl))], y: spread(heights), xLabel: 'KL from the start, nats', yLabel: 'reward' });
    const scales = (points) => [points.map((p) => [p.kl, p.seen + offset]), points.map((p) => [p.kl, p.reward])];
    if (!predicting) {
      const [seen, real] = scales(ideal);
      plot.area(seen, real, 'gap').line(seen, 'm-rlhf dashed faint').line(real, 'm-star faint');
    }
    const done = way.slice(0, Math.round(t) + 1);
    const [seen, real] = scales(done);
    plot.line(seen, 'm-rlhf dashed strong').line(real, 'm-star strong');
    const now = done.at(-1);
    const best = done.reduce((a, b) => (b.reward > (a?.reward ?? -Infinity) ? b : a), null);
    if (now && best.reward - now.reward > 0.05) plot.dot(best.kl, best.reward, 'm-star', 4).text(best.kl, best.reward, 'best', 'm-star', { dy: -9, anchor: 'middle' });
    if (now) {
      plot.dot(...seen.at(-1), 'm-rlhf ring', 6).dot(...real.at(-1), 'm-rlhf', 5.5);
      plot.labels([{ x: now.kl, y: seen.at(-1)[1], text: 'seen', kind: 'strong m-rlhf' }, { x: now.kl, y: now.reward, text: 'true', kind: 'strong m-star' }]);
    }
    plot.into(element, now ? `RLHF now: seen reward ${short(now.seen + offset)}, true reward ${short(now.reward)}, KL ${short(now.kl)}.` : 'RLHF is switched off.');
  },
};

function spread(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = 0.1 * (high - low || 1);
  return [low - room, high + room];
}
