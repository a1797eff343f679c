// DPOP's kink: both answers move together, so DPO's margin stays; only DPOP's loss knows which side of the start they are on.

import { pairMargin } from '../derive.js';
import { dpo, dpop } from '../math/objectives.js';
import { Plot } from '../plot.js';
import { NAMES, letter, short, signed } from '../words.js';

const [LEAST, MOST] = [1.5, 4]; // nats to each side: an answer that is further away stands at the edge

export const kink = {
  id: 'kink',
  title: 'DPO does not see both answers fall; DPOP charges for it',
  says: 'The loss of one pair while both answers move together, so that their margin stays as it is now. To DPO that is nothing: a level line. DPOP adds λ times what the chosen answer has lost: a kink at its start.',
  wide: true,
  controls: ['dpopPenalty', 'beta', 'pair'],
  draw(element, { state, derived, t }, width) {
    const [w, l] = state.pair;
    const seen = ['dpop', 'dpo'].filter((method) => state.methods.includes(method));
    const moved = (method) => derived.at(method, t)[w] - derived.logRef[w];
    const now = seen.map((method) => ({ method, x: moved(method) }));
    const h = seen.length ? pairMargin(derived.at(seen[0], t), derived.logRef, [w, l]) : 0;
    const answer = (policy) => ({ policy, reference: 0, count: 1 });
    const losses = {
      dpo: (x) => dpo(answer(x), answer(x - h), { beta: state.beta })[0],
      dpop: (x) => dpop(answer(x), answer(x - h), { beta: state.beta, penalty: state.dpopPenalty })[0],
    };
    const reach = Math.min(MOST, 1.15 * Math.max(LEAST, ...now.map(({ x }) => Math.abs(x))));
    const top = 1.15 * Math.max(1, 2 * losses.dpo(0), losses.dpop(-LEAST));
    const plot = new Plot(width, 250, { x: [-reach, reach], y: [0, top], xLabel: `log-ratio of ${letter(w)}, the chosen answer, nats`, yLabel: `loss of ${letter(w)}≻${letter(l)} at a margin h of ${short(h)}`, top: 22 });
    const low = Math.max(-reach, lowest(losses.dpop, top, reach)); // above the top there is nothing to draw
    const grid = Array.from({ length: 121 }, (_, k) => low - (low * k) / 120);
    plot.upright(0);
    plot.line([[-reach, losses.dpo(0)], [reach, losses.dpo(0)]], 'strong m-dpo').line([...grid, reach].map((x) => [x, losses.dpop(x)]), 'strong m-dpop');
    const narrow = width < 480;
    plot.text(reach, losses.dpo(0), 'DPO: level', 'strong m-dpo', { dx: -6, dy: narrow ? -10 - 15 * now.length : -8, anchor: 'end' });
    // On the curve's left, where nothing is; a curve that begins at the edge has it on its right.
    plot.text(low, top, 'DPOP', 'strong m-dpop', plot.x(low) - plot.left > 60 ? { dx: -8, dy: 12, anchor: 'end' } : { dx: 14, dy: 12 });
    plot.text(0, top, narrow ? 'below' : `${letter(w)} below its start`, 'soft', { dx: -8, dy: 12, anchor: 'end' }).text(0, top, 'above', 'soft', { dx: 8, dy: 12 });
    for (const { method, x } of now) plot.dot(x, losses[method](x), `m-${method}`, 5.5);
    now.forEach(({ method, x }, k) => {
      const side = x > 0.5 * reach ? { dx: -9, anchor: 'end' } : { dx: 9 };
      const beyond = x < -reach ? '← ' : x > reach ? '→ ' : '';
      plot.text(x, losses[method](x), `${beyond}${NAMES[method]} ${narrow ? '' : 'stands at '}${signed(x)}`, `m-${method}`, { ...side, dy: -10 - 15 * k });
    });
    const slope = (x) => -dpop(answer(x), answer(x - h), { beta: state.beta, penalty: state.dpopPenalty })[1];
    const places = now.map(({ method, x }) => `${NAMES[method]} has moved ${letter(w)} by ${signed(x)} nats`);
    plot.into(element, `DPOP pulls ${letter(w)} up ${short(slope(-1e-9))} a nat just below its start and ${short(slope(1e-9))} above. ${places.join('; ')}.`);
  },
};

/** Where a falling curve leaves the plot, at most `reach` nats below 0. */
function lowest(loss, top, reach) {
  let [low, high] = [-reach, 0];
  if (loss(low) <= top) return low;
  for (let k = 0; k < 40; k++) {
    const middle = (low + high) / 2;
    if (loss(middle) > top) low = middle;
    else high = middle;
  }
  return high;
}
