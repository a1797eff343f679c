// A panel as a card: title, drawing, controls, and what it shows, in words.

import { control } from './controls.js';
import { html, svg } from './dom.js';

/** { element, draw(view), controls } of a panel; controls are functions to call with a new state. */
export function card(panel, store, shared) {
  const section = html('section', { class: `card${panel.wide ? ' wide' : ''}`, id: `panel-${panel.id}`, 'aria-labelledby': `title-${panel.id}` });
  section.append(html('h3', { id: `title-${panel.id}` }, panel.title));
  const body = panel.build ? panel.build(store, shared) : drawing(panel);
  if (panel.says) section.append(html('p', { class: 'says' }, panel.says));
  section.append(body.element);
  const controls = addControls(section, panel.controls ?? [], store);
  return { element: section, draw: body.draw, controls };
}

function drawing(panel) {
  const element = svg('svg', { role: 'img', class: 'plot' });
  return { element, draw: (view) => panel.draw(element, view, Math.max(280, element.parentNode.clientWidth - 36)) };
}

/** Put the named controls into an element; returns how each is refreshed. */
export function addControls(parent, names, store) {
  if (!names.length) return [];
  const made = names.map((name) => control(name, store));
  parent.append(html('div', { class: 'controls' }, ...made.map(({ element }) => element)));
  for (const { refresh } of made) refresh(store.state);
  return made.map(({ refresh }) => refresh);
}
