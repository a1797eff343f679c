// The page in words: the claim of a preset, what has happened so far, and all numbers as a table.

import { html } from './dom.js';
import { PRESETS, presetOf } from './presets.js';
import { NAMES, letter, percent, short } from './words.js';

export function claimOf(state) {
  const key = presetOf(state);
  return key ? PRESETS[key].claim : `“${state.prompt}” In a world of your own, β = ${short(state.beta)}. Undo goes back.`;
}

/** One sentence for each method: its favourite, what it earned, how far it went. */
export function story({ state, derived, t }) {
  const parts = state.methods.map((method) => {
    const logp = derived.at(method, t);
    const best = logp.indexOf(Math.max(...logp));
    return `${NAMES[method]} says ${letter(best)} ${percent(Math.exp(logp[best]))} % of the time (reward ${short(derived.reward(logp))}, KL ${short(derived.kl(logp))})`;
  });
  return `After ${Math.round(t)} steps: ${parts.join('; ')}.`;
}

export function fillTable(element, { state, derived, t }) {
  const columns = [['start', derived.logRef], ['π*', derived.star], ...state.methods.map((method) => [NAMES[method], derived.at(method, t)])];
  const head = html('tr', {}, html('th', {}, 'answer'), html('th', {}, 'reward'), html('th', {}, 'tokens'), ...columns.map(([name]) => html('th', { scope: 'col' }, name)));
  const rows = state.answers.map((answer, i) => html('tr', {}, html('th', { scope: 'row' }, `${letter(i)} ${answer.text}`), html('td', {}, short(answer.reward)), html('td', {}, answer.tokens), ...columns.map(([, logp]) => html('td', {}, `${percent(Math.exp(logp[i]))} %`))));
  const figure = (name, of) => html('tr', {}, html('th', { scope: 'row' }, name), html('td', {}), html('td', {}), ...columns.map(([, logp]) => html('td', {}, short(of(logp)))));
  element.replaceChildren(html('table', {}, html('thead', {}, head), html('tbody', {}, ...rows, figure('E[reward]', derived.reward), figure('KL from the start, nats', derived.kl), figure('E[tokens]', derived.length))));
}
