// Over-optimisation: what the reward model sees, and what is true, as the policy goes where the model points.

import { Plot } from '../plot.js';
import { short } from '../words.js';

export const hacking = {
  id: 'hacking',
  title: 'Push on a learned reward and it breaks',
  says: 'RLHF’s way on both scales. Dashed: reward as the model sees it. Solid: true reward. Where they part, the model is being exploited.',
  controls: ['beta', 'noise', 'seed'],
  draw(element, { state, derived, t }, width) {
    const ideal = derived.hacked.map(({ kl, reward, seen }) => ({ kl, reward, seen }));
    const offset = ideal[0].reward - ideal[0].seen; // rewards are known up to a constant: both begin at the same height
    const way = (derived.paths.rlhf ?? []).map((logp) => ({ kl: derived.kl(logp), reward: derived.reward(logp), seen: derived.proxy(logp) }));
    const all = [...ideal, ...way];
    const heights = all.flatMap(({ reward, seen }) => [reward, seen + offset]);
    const plot = new Plot(width, 270, { x: [0, 1.25 * Math.max(0.2, ...all.map(({ kl }) => kl))], y: spread(heights), xLabel: 'KL from the start, nats', yLabel: 'reward' });
    const seen = ideal.map((p) => [p.kl, p.seen + offset]);
    const real = ideal.map((p) => [p.kl, p.reward]);
    plot.area(seen, real, 'gap').line(seen, 'm-rlhf dashed').line(real, 'm-star');
    const now = way[Math.min(Math.round(t), way.length - 1)];
    if (now) plot.dot(now.kl, now.seen + offset, 'm-rlhf ring', 6).dot(now.kl, now.reward, 'm-rlhf', 5.5);
    const best = ideal.reduce((a, b) => (b.reward > a.reward ? b : a));
    const turned = best.reward - ideal.at(-1).reward > 0.05;
    if (turned) plot.dot(best.kl, best.reward, 'm-star', 4).text(best.kl, best.reward, 'best', 'm-star', { dy: -9, anchor: 'middle' });
    plot.labels([
      { x: seen.at(-1)[0], y: seen.at(-1)[1], text: 'seen', kind: 'strong m-rlhf' }, { x: real.at(-1)[0], y: real.at(-1)[1], text: 'true', kind: 'strong m-star' },
    ]);
    plot.into(element, now ? `RLHF now: seen reward ${short(now.seen + offset)}, true reward ${short(now.reward)}, KL ${short(now.kl)}.` : 'RLHF is switched off.');
  },
};

function spread(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = 0.1 * (high - low || 1);
  return [low - room, high + room];
}
