// Where the probability went: chosen, rejected, and the answer that nobody asked for.

import { accuracy, pairMargin } from '../derive.js';
import { Plot } from '../plot.js';
import { NAMES, letter, percent, short, signed } from '../words.js';

export const displacement = {
  id: 'displacement',
  title: 'A growing margin is not a growing answer',
  says: 'One method’s probabilities of the chosen, the rejected and the likeliest other answer. The margin can grow while the chosen answer dies.',
  controls: ['focus', 'pair'],
  draw(element, { state, derived, t, run }, width) {
    const method = state.methods.includes(state.focus) ? state.focus : state.methods[0];
    if (!method) {
      new Plot(width, 270, { x: [0, 1], y: [0, 1] }).text(0.5, 0.5, 'no method is shown', 'soft', { anchor: 'middle' }).into(element, 'No method is shown.');
      return;
    }
    const [w, l] = state.pair;
    const path = derived.paths[method];
    const third = others(path.at(-1), state.pair);
    const plot = new Plot(width, 270, { x: [0, state.steps * 1.16], y: [0, 1.02], xLabel: 'step', yLabel: `probability under ${NAMES[method]}`, top: 40 });
    plot.upright(t, 'now');
    const kinds = [[w, 'chosen', `strong m-${method}`], [l, 'rejected', `dashed m-${method}`], [third, 'other', 'strong m-star']];
    const every = Math.max(1, Math.floor(path.length / 400));
    for (const [i, , kind] of kinds) plot.line(path.map((logp, step) => [step, Math.exp(logp[i])]).filter(([step]) => step <= t && (step % every === 0 || step === Math.round(t))), kind);
    if (run?.perToken) ownRun(plot, run.perToken, state.steps);
    const now = derived.at(method, t);
    plot.labels(kinds.map(([i, name, kind]) => ({ x: t, y: Math.exp(now[i]), text: `${letter(i)} ${name}`, kind })));
    const h = pairMargin(now, derived.logRef, state.pair);
    const says = `margin βh ${short(state.beta * h)} · accuracy ${percent(accuracy(now, derived))} % · p(chosen) ${percent(Math.exp(now[w]))} %`;
    plot.text(0, 1, says, `m-${method}`, { dx: 4, dy: -8 });
    plot.into(element, `${NAMES[method]}, step ${Math.round(t)}: ${says}.`);
  },
};

function others(logp, pair) {
  return logp.map((value, i) => (pair.includes(i) ? -Infinity : value)).reduce((best, value, i, all) => (value > all[best] ? i : best), pair[0]);
}

/**
 * A run's answers are never this likely: the probability of one of their tokens, as a share of what it was at the start.
 * Of a whole answer it would be e^(-1.13) = 32 % where thirty tokens lost a twenty-sixth each.
 */
function ownRun(plot, { chosen, rejected }, steps) {
  const relative = (points) => points.map(([share, nats]) => [share * steps, Math.min(1, Math.exp(nats))]);
  plot.line(relative(chosen), 'strong m-run').line(relative(rejected), 'dashed m-run');
  const [, nats] = chosen.at(-1);
  plot.text(steps, relative(chosen).at(-1)[1], `your run, a token against the start: ${signed(nats)} nats`, 'm-run', { dy: -6, anchor: 'end' });
}
