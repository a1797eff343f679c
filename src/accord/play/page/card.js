// A panel as a card: title, drawing, controls, and what it shows, in words.

import { control } from './controls.js';
import { html, svg } from './dom.js';

const NARROWEST = 280; // px; a drawing shrinks below that

/** { element, draw(view, width), refreshers } of a panel; refreshers are functions to call with a new state. */
export function card(panel, store, shared) {
  const section = html('section', { class: `card${panel.wide ? ' wide' : ''}`, id: `panel-${panel.id}`, 'aria-labelledby': `title-${panel.id}` });
  const title = typeof panel.title === 'function' ? panel.title : () => panel.title;
  const heading = html('h3', { id: `title-${panel.id}` }, title(store.state));
  section.append(heading);
  const body = panel.build ? panel.build(store, shared) : drawing(panel);
  if (panel.says) section.append(html('p', { class: 'says' }, panel.says));
  section.append(body.element);
  const controls = addControls(section, panel.controls ?? [], store);
  controls.push((state) => { heading.textContent = title(state); });
  return { element: section, draw: body.draw, refreshers: controls };
}

function drawing(panel) {
  const element = svg('svg', { role: 'img', class: 'plot' });
  return { element, draw: (view, width) => panel.draw(element, view, Math.max(NARROWEST, width)) };
}

/** Put the named controls into an element; returns how each is refreshed. */
export function addControls(parent, names, store) {
  if (!names.length) return [];
  const made = names.map((name) => control(name, store));
  parent.append(html('div', { class: 'controls' }, ...made.map(({ element }) => element)));
  for (const { refresh } of made) refresh(store.state);
  return made.map(({ refresh }) => refresh);
}
