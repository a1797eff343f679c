// The data: who beats whom how often, and which pairs are ever compared. A cell is a switch.

import { preference } from '../math/preferences.js';
import { html } from '../dom.js';
import { letter, percent } from '../words.js';

export const comparisons = {
  id: 'comparisons',
  title: 'The data: two answers, one preferred',
  says: 'Each cell: how often the row’s answer beats the column’s, in %. Press a cell to leave that pair out of the data.',
  controls: ['comparisons', 'noise', 'deterministic', 'lengthBias', 'seed'],
  build(store) {
    const grid = html('div', { class: 'matrix', role: 'group', 'aria-label': 'Share of comparisons that the row’s answer wins; press to leave the pair out' });
    const note = html('p', { class: 'note' });
    return { element: html('div', {}, grid, note), draw: (view) => draw(grid, note, view, store) };
  },
};

function draw(grid, note, { state, derived }, store) {
  const count = state.answers.length;
  if (grid.dataset.count !== String(count)) fill(grid, count, store);
  const wins = new Map(derived.rows.map(({ w, l, count: n }) => [`${w},${l}`, n]));
  for (const cell of grid.querySelectorAll('button')) {
    const [i, j] = cell.dataset.pair.split(',').map(Number);
    const [won, lost] = [wins.get(`${i},${j}`) ?? 0, wins.get(`${j},${i}`) ?? 0];
    const on = won + lost > 0;
    cell.textContent = on ? percent(won / (won + lost)) : '·';
    cell.setAttribute('aria-pressed', on);
    cell.setAttribute('aria-label', `${letter(i)} against ${letter(j)}: ${on ? `${letter(i)} wins ${percent(won / (won + lost))} percent` : 'never compared'}`);
    cell.style.setProperty('--share', on ? `${(100 * won) / (won + lost)}%` : '0%');
  }
  note.textContent = sentence(state, derived);
}

function fill(grid, count, store) {
  grid.dataset.count = count;
  grid.style.setProperty('--count', count);
  const cells = [html('span', {})];
  for (let j = 1; j < count; j++) cells.push(html('span', { class: 'm-star' }, letter(j)));
  for (let i = 0; i < count - 1; i++) {
    cells.push(html('span', { class: 'm-star' }, letter(i)));
    for (let j = 1; j < count; j++) cells.push(j > i ? html('button', { type: 'button', 'data-pair': `${i},${j}`, on: { click: () => flip(store, i, j) } }) : html('span', {}));
  }
  grid.replaceChildren(...cells);
}

function flip(store, i, j) {
  const { never } = store.state;
  const left = never.filter(([a, b]) => a !== i || b !== j);
  store.commit({ never: left.length < never.length ? left : [...never, [i, j]] });
}

function sentence(state, { rows, pairs }) {
  const all = (state.answers.length * (state.answers.length - 1)) / 2;
  const wrong = rows.reduce((total, { w, l, share }) => total + (state.answers[w].reward < state.answers[l].reward ? share : 0), 0);
  const data = state.comparisons === 0 ? 'Endless comparisons' : `${state.comparisons.toLocaleString('en')} comparisons`;
  const example = pairs[0] ? preference(...pairs[0], state.answers, state).clean : 0.5;
  return `${data} of ${pairs.length} of ${all} pairs. ${percent(wrong)} % go against the true reward. P(${letter(pairs[0]?.[0] ?? 0)}≻${letter(pairs[0]?.[1] ?? 1)}) = ${example.toFixed(2)}.`;
}
