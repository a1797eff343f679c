// The heart of the page: how likely each answer is, at the start, at the optimum, and under every method.

import { svg } from '../dom.js';
import { NAMES, letter, percent, short, wrapped } from '../words.js';

const HEAD = 34;

export const policies = {
  id: 'policies',
  title: ({ prompt }) => `“${prompt}”`,
  says: 'How likely each answer is: at the start, at the optimum π*, and under each method.',
  draw(element, { state, derived, t }, width) {
    const columns = [{ name: 'ref', logp: derived.logRef }, { name: 'star', logp: derived.star }];
    for (const method of state.methods) columns.push({ name: method, logp: derived.at(method, t) });
    const shape = layout(width, state.answers.length, columns.length);
    const parts = [...headers(columns, shape), ...state.answers.flatMap((answer, i) => row(answer, i, columns, shape, derived))];
    element.setAttribute('viewBox', `0 0 ${width} ${shape.height}`);
    element.setAttribute('height', shape.height);
    element.setAttribute('aria-label', summary(state, columns));
    element.replaceChildren(...parts);
  },
};

/** Wide: labels on the left. Narrow: each answer's label above its bars. */
function layout(width, count, columns) {
  const narrow = width < 560;
  const left = narrow ? 0 : Math.min(262, width * 0.36);
  const row = narrow ? 92 : Math.max(58, Math.min(130, 400 / count));
  const column = (width - left - (narrow ? 0 : 6)) / columns;
  return { width, narrow, left, row, column, bar: Math.min(44, column * 0.62), tall: row - (narrow ? 46 : 26), height: HEAD + count * row + 4, room: Math.floor(narrow ? (width - 34) / 8.4 : (left - 44) / 7.9) };
}

function middle(k, { left, column }) {
  return left + (k + 0.5) * column;
}

function headers(columns, shape) {
  const small = shape.column < 54;
  return columns.flatMap(({ name }, k) =>
    broken(NAMES[name], shape.column / (small ? 7 : 9.5)).map((line, i, lines) =>
      svg('text', { class: `head m-${name}${small ? ' small' : ''}`, x: middle(k, shape), y: 18 - 7 * (lines.length - 1) + 13 * i, 'text-anchor': 'middle' }, line,
        name === 'star' ? svg('title', {}, 'The optimum of reward under the KL penalty: π_ref · exp(r/β), normalised') : null)));
}

/** A name that is wider than its column breaks behind its hyphen. */
function broken(name, room) {
  const at = name.indexOf('-') + 1;
  return at && name.length > room ? [name.slice(0, at), name.slice(at)] : [name];
}

function row(answer, i, columns, shape, derived) {
  const top = HEAD + i * shape.row;
  const foot = top + shape.row - 8;
  const star = foot - Math.exp(derived.star[i]) * shape.tall;
  const parts = label(answer, i, shape, top);
  parts.push(svg('line', { class: 'base', x1: shape.left, x2: shape.width, y1: foot, y2: foot }));
  const from = middle(1, shape);
  parts.push(svg('line', { class: 'target', x1: from, x2: shape.width - 4, y1: star.toFixed(1), y2: star.toFixed(1) }));
  columns.forEach(({ name, logp }, k) => parts.push(...bar(name, Math.exp(logp[i]), middle(k, shape), foot, shape)));
  return parts;
}

function label(answer, i, shape, top) {
  const meta = `reward ${short(answer.reward)} · ${answer.tokens} tokens`;
  const lines = wrapped(answer.text, shape.room, shape.narrow ? 1 : 2);
  const x = shape.narrow ? 26 : 32;
  const first = top + (shape.narrow ? 12 : shape.row / 2 - 8 * lines.length - 2);
  const parts = [
    svg('circle', { class: 'badge', cx: 11, cy: first - 4, r: 10 }),
    svg('text', { class: 'letter', x: 11, y: first, 'text-anchor': 'middle' }, letter(i)),
    ...lines.map((line, k) => svg('text', { class: 'answer', x, y: first + 17 * k }, line)),
  ];
  if (shape.narrow) return parts;
  return [...parts, svg('text', { class: 'meta', x, y: first + 17 * lines.length }, meta), svg('title', {}, answer.text)];
}

function bar(name, p, x, foot, { bar: wide, tall, column }) {
  const height = Math.max(1.5, p * tall);
  return [
    svg('rect', { class: `bar m-${name}`, x: (x - wide / 2).toFixed(1), y: (foot - height).toFixed(1), width: wide.toFixed(1), height: height.toFixed(1), rx: 2 }),
    svg('text', { class: `value m-${name}${p < 0.005 ? ' none' : ''}`, x: x.toFixed(1), y: (foot - height - 4).toFixed(1), 'text-anchor': 'middle' }, percent(p) + (column > 54 ? ' %' : '')),
  ];
}

function summary(state, columns) {
  const most = columns.map(({ name, logp }) => {
    const best = logp.indexOf(Math.max(...logp));
    return `${NAMES[name]}: ${letter(best)} ${percent(Math.exp(logp[best]))} percent`;
  });
  return `Most likely answer, of ${state.answers.length}, under each policy. ${most.join('; ')}.`;
}
