// DPO's gradient, pair by pair: σ(-βh) is how hard a comparison still pulls.

import { pairMargin } from '../derive.js';
import { sigmoid } from '../math/numbers.js';
import { Plot } from '../plot.js';
import { letter, short } from '../words.js';

export const pull = {
  id: 'pull',
  title: 'DPO listens to what it still gets wrong',
  says: 'Each dot is a comparison, as large as its share of the data. Its weight in the gradient is σ(−margin): a pair that is learned stops pulling.',
  controls: ['beta'],
  draw(element, { state, derived, t }, width) {
    const plot = (reach) => new Plot(width, 250, { x: [-reach, reach], y: [0, 1.05], xLabel: 'margin βh = implicit reward, chosen − rejected', yLabel: 'weight in the gradient' });
    if (!state.methods.includes('dpo')) return plot(4).text(0, 0.5, 'DPO is switched off', 'soft', { anchor: 'middle' }).into(element, 'DPO is switched off.');
    const logp = derived.at('dpo', t);
    const dots = derived.rows.map(({ w, l, share }) => ({ w, l, share, x: state.beta * pairMargin(logp, derived.logRef, [w, l]) }));
    const reach = Math.max(4, 1.3 * Math.max(...dots.map(({ x }) => Math.abs(x))));
    const shown = plot(reach);
    const grid = Array.from({ length: 81 }, (_, k) => -reach + (2 * reach * k) / 80);
    shown.line(grid.map((x) => [x, sigmoid(-x)]), 'faint m-dpo').upright(0);
    for (const { x, share } of dots) shown.dot(x, sigmoid(-x), 'm-dpo see-through', 3 + 14 * Math.sqrt(share));
    const ordered = [...dots].sort((a, b) => a.x - b.x);
    for (const [one, anchor] of [[ordered[0], 'end'], [ordered.at(-1), 'start']]) {
      const side = anchor === 'end' ? -1 : 1;
      shown.text(one.x, sigmoid(-one.x), `${letter(one.w)}≻${letter(one.l)}`, 'strong m-dpo', { dx: 14 * side, dy: -4, anchor });
    }
    const mean = dots.reduce((total, { share, x }) => total + share * sigmoid(-x), 0);
    shown.text(reach, 1, `mean weight ${short(mean)}`, 'soft', { anchor: 'end', dx: -2, dy: 4 });
    return shown.into(element, `Mean weight of a comparison in DPO's gradient: ${short(mean)}; one half at the start.`);
  },
};
