// The world, to edit: the prompt, its answers, how likely and how good they are.

import { html } from '../dom.js';
import { FEWEST_ANSWERS, MOST_ANSWERS } from '../state.js';
import { letter } from '../words.js';

const COLUMNS = [
  ['text', 'answer', { type: 'text', maxlength: 200 }],
  ['ref', 'π_ref, weight', { type: 'number', min: 0.001, max: 1, step: 0.01 }],
  ['reward', 'true reward', { type: 'number', min: -4, max: 4, step: 0.1 }],
  ['tokens', 'tokens', { type: 'number', min: 1, max: 200, step: 1 }],
  ['f0', 'feature 1', { type: 'number', min: -2, max: 2, step: 0.1 }],
  ['f1', 'feature 2', { type: 'number', min: -2, max: 2, step: 0.1 }],
];

export const world = {
  id: 'world',
  title: 'The world, yours to change',
  says: 'Three to eight answers to one prompt. Features matter when answers share them: what moves one answer then moves those like it.',
  wide: true,
  controls: ['shares', 'optimizer', 'rl', 'normalize', 'steps', 'rate'],
  build(store) {
    const prompt = html('input', { type: 'text', maxlength: 200, 'aria-label': 'prompt', on: { input: () => store.set({ prompt: prompt.value }), change: () => store.commit() } });
    const body = html('tbody', {});
    const table = html('div', { class: 'scroll' }, html('table', { class: 'world' }, html('thead', {}, html('tr', {}, html('th', {}), ...COLUMNS.map(([, name]) => html('th', { scope: 'col' }, name)), html('th', {}))), body));
    const add = html('button', { type: 'button', on: { click: () => store.commit({ answers: [...store.state.answers, { text: 'Another answer.', ref: 0.1, reward: 0, tokens: 12, features: [0, 0] }] }) } }, 'Add an answer');
    const draw = ({ state }) => {
      if (document.activeElement !== prompt) prompt.value = state.prompt;
      if (body.children.length !== state.answers.length) body.replaceChildren(...state.answers.map((_, i) => row(i, store)));
      state.answers.forEach((answer, i) => refresh(body.children[i], answer, state.answers.length));
      add.disabled = state.answers.length >= MOST_ANSWERS;
    };
    return { element: html('div', {}, html('label', { class: 'prompt' }, 'Prompt ', prompt), table, add), draw };
  },
};

function row(i, store) {
  const cells = COLUMNS.map(([key, name, attributes]) => {
    const input = html('input', { ...attributes, 'data-key': key, 'aria-label': `${name} of ${letter(i)}` });
    input.addEventListener('input', () => edit(store, i, key, input));
    input.addEventListener('change', () => store.commit());
    return html('td', {}, input);
  });
  const remove = html('button', { type: 'button', class: 'quiet', 'aria-label': `remove ${letter(i)}`, on: { click: () => drop(store, i) } }, '×');
  return html('tr', {}, html('th', { scope: 'row' }, letter(i)), ...cells, html('td', {}, remove));
}

function edit(store, i, key, input) {
  if (input.type === 'number' && !Number.isFinite(input.valueAsNumber)) return; // half typed
  const answers = store.state.answers.map((answer) => ({ ...answer, features: [...answer.features] }));
  if (key[0] === 'f' && key.length === 2) answers[i].features[Number(key[1])] = input.valueAsNumber;
  else answers[i][key] = input.type === 'number' ? input.valueAsNumber : input.value;
  store.set({ answers });
}

/** Without answer i; pairs that named later answers name them by their new place. */
function drop(store, i) {
  const { answers, never, pair } = store.state;
  const moved = (pairs) => pairs.filter((one) => !one.includes(i)).map((one) => one.map((k) => (k > i ? k - 1 : k)));
  store.commit({ answers: answers.filter((_, k) => k !== i), never: moved(never), pair: moved([pair])[0] ?? [0, 1] });
}

function refresh(element, answer, count) {
  const values = { ...answer, f0: answer.features[0], f1: answer.features[1] };
  for (const input of element.querySelectorAll('input')) {
    if (document.activeElement === input) continue;
    const value = values[input.dataset.key];
    input.value = typeof value === 'number' ? Number(value.toPrecision(3)) : value;
  }
  element.querySelector('button').disabled = count <= FEWEST_ANSWERS;
}
