// RLHF's reward model against the truth, with the reward that DPO's policy implies.

import { Plot } from '../plot.js';
import { NAMES, letter, short } from '../words.js';

export const learned = {
  id: 'learned',
  title: 'RLHF fits a reward model. DPO is one.',
  says: 'Learned reward against true reward, centred. Filled: the reward model. Rings: β log π/π_ref of DPO’s policy. On the diagonal, both are right.',
  controls: ['noise', 'comparisons'],
  draw(element, { state, derived, t }, width) {
    const truth = centred(derived.rewards);
    const implied = state.methods.includes('dpo') ? centred(derived.at('dpo', t).map((v, i) => state.beta * (v - derived.logRef[i]))) : null;
    const shown = [...truth, ...derived.learned, ...(implied ?? [])];
    const reach = 1.1 * Math.min(8, Math.max(0.5, ...shown.map(Math.abs)));
    const plot = new Plot(width, 270, { x: [-reach, reach], y: [-reach, reach], xLabel: 'true reward', yLabel: 'learned' });
    plot.line([[-reach, -reach], [reach, reach]], 'level').text(reach, reach, 'right', 'soft', { dx: -8, dy: 14, anchor: 'end' });
    truth.forEach((x, i) => {
      plot.line([[x, derived.learned[i]], [x, x]], 'miss').dot(x, derived.learned[i], 'm-rlhf', 6);
      if (implied) plot.dot(x, implied[i], 'm-dpo ring', 9);
      plot.text(x, derived.learned[i], letter(i), 'soft', { dx: 13, dy: 4 });
    });
    plot.text(-reach, reach, `● ${NAMES.rlhf}’s reward model`, 'm-rlhf', { dx: 8, dy: 14 });
    if (implied) plot.text(-reach, reach, '○ DPO’s implicit reward', 'm-dpo', { dx: 8, dy: 31 });
    plot.into(element, `Learned against true reward: ${truth.map((x, i) => `${letter(i)} ${short(derived.learned[i])} for ${short(x)}`).join('; ')}.`);
  },
};

function centred(values) {
  const mean = values.reduce((a, b) => a + b) / values.length;
  return values.map((value) => value - mean);
}
