// Puts the page together: one store, the panels that are in view, the player, the address bar.

import { addControls, card } from './card.js';
import { derive } from './derive.js';
import { html } from './dom.js';
import { Player } from './player.js';
import { plane } from './panels/plane.js';
import { policies } from './panels/policies.js';
import { SECTIONS } from './panels/index.js';
import { PRESETS, presetOf, presetState } from './presets.js';
import { picture, saveState } from './share.js';
import { Store, decode, encode } from './state.js';
import { claimOf, fillTable, story } from './story.js';
import { Tour } from './tour.js';
import { NAMES } from './words.js';

const find = (selector) => document.querySelector(selector);
const still = matchMedia('(prefers-reduced-motion: reduce)');

const store = new Store(fromAddress());
const view = { state: store.state, derived: derive(store.state), t: store.state.steps, run: null, predicting: false };
const cards = new Map(); // panel id -> { element, draw, visible, width }
const refreshers = []; // of controls
let claim = ''; // of the state, in words
let asked = false; // whether a frame is already on its way
let stale = false; // whether the state has changed since the last derive

function fromAddress() {
  const [kind, value] = location.hash.slice(1).split('=');
  if (kind === 'preset' && Object.hasOwn(PRESETS, value)) return presetState(value);
  return kind === 's' ? decode(value) : presetState('optimum');
}

/** One frame for any number of changes: derive if the state moved, then draw what can be seen. */
function frame() {
  asked = false;
  if (stale) {
    const atEnd = view.t >= view.state.steps;
    Object.assign(view, { state: store.state, derived: derive(store.state) });
    view.t = atEnd ? view.state.steps : Math.min(view.t, view.state.steps);
    stale = false;
    for (const refresh of refreshers) refresh(view.state);
    presetButtons();
    methodButtons();
  }
  for (const one of cards.values()) if (one.visible && one.width) one.draw(view, one.width);
  player.show(view.t, view.state.steps);
  find('#claim').textContent = view.predicting ? 'Predict first, then watch.' : claim;
  if (!player.playing && !store.open) settled();
}

function ask() {
  if (!asked) requestAnimationFrame(frame);
  asked = true;
}

/** What a screen reader is told, and the table: when things have come to rest, not sixty times a second. */
function settled() {
  find('#story').textContent = story(view);
  if (find('#numbers').open) fillTable(find('#numbers .scroll'), view);
}

const player = new Player(find('#player'), {
  still: () => still.matches,
  steps: () => view.state.steps,
  time: () => view.t,
  move: (t) => { view.t = Math.max(0, Math.min(view.state.steps, t)); ask(); },
});

store.subscribe((state, open) => {
  stale = true;
  if (!open) address(state);
  undo.disabled = store.past.length === 0;
  ask();
});

function address(state) {
  const name = presetOf(state);
  history.replaceState(null, '', name ? `#preset=${name}` : `#s=${encode(state)}`);
}

function load(state, play) {
  store.commit(state);
  view.t = play ? 0 : view.state.steps;
  if (play) player.play(0);
  ask();
}

function presetButtons() {
  const here = presetOf(view.state);
  for (const button of find('#presets').children) button.setAttribute('aria-pressed', button.dataset.preset === here);
  claim = claimOf(view.state);
}

function methodButtons() {
  for (const button of find('#methods').children) button.setAttribute('aria-pressed', view.state.methods.includes(button.dataset.method));
}

/** Draws a card whenever it comes into view or changes its width. To ask for the width in a frame would lay out the page anew. */
function watch(id, element, draw) {
  const one = { element, draw, visible: false, width: 0 };
  cards.set(id, one);
  new IntersectionObserver((entries) => { one.visible = entries.at(-1).isIntersecting; ask(); }, { rootMargin: '100px' }).observe(element);
  new ResizeObserver((entries) => { if (one.width !== entries.at(-1).contentRect.width) { one.width = entries.at(-1).contentRect.width; ask(); } }).observe(element);
}

function place(panel, parent) {
  const { element, draw, refreshers: own } = card(panel, store, { setRun: (run) => { view.run = run; ask(); } });
  refreshers.push(...own);
  parent.append(element);
  watch(panel.id, element, draw);
}

function build() {
  if (window !== window.parent) document.documentElement.classList.add('framed'); // inside a page of the documentation
  for (const panel of [policies, plane]) place(panel, find('#first'));
  for (const { title, panels } of SECTIONS) {
    const grid = html('div', { class: 'grid' });
    find('#below').append(html('h2', {}, title), grid);
    for (const panel of panels) place(panel, grid);
  }
  find('#presets').append(...Object.entries(PRESETS).map(([key, { name }]) => html('button', { type: 'button', 'data-preset': key, on: { click: () => load(presetState(key), true) } }, name)));
  find('#methods').append(...Object.keys(NAMES).slice(2).map((method) => html('button', { type: 'button', class: `chip m-${method}`, 'data-method': method, on: { click: () => flipMethod(method) } }, NAMES[method])));
  refreshers.push(...addControls(find('#player'), ['beta'], store));
  find('#player').append(undo);
}

function flipMethod(method) {
  const { methods } = store.state;
  store.commit({ methods: methods.includes(method) ? methods.filter((name) => name !== method) : [...methods, method] });
}

/** The tour shows a state from its start; with no state it plays the one that is there. */
function guide(state, look, play) {
  view.predicting = !play;
  if (state) {
    player.pause();
    store.commit(state);
    Object.assign(view, { state: store.state, t: 0 });
  }
  if (play) player.play(0);
  const place = cards.get(look).element;
  requestAnimationFrame(() => place.scrollIntoView({ behavior: still.matches ? 'auto' : 'smooth', block: 'center' }));
  for (const { element } of cards.values()) element.classList.toggle('look', element === place);
  ask();
}

const undo = html('button', { type: 'button', id: 'undo', disabled: true, 'aria-label': 'undo', title: 'Undo (Ctrl+Z)', on: { click: () => store.undo() } }, '↶ Undo');

function theme() {
  const root = document.documentElement;
  const dark = getComputedStyle(root).colorScheme === 'dark' || (getComputedStyle(root).colorScheme !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches);
  root.style.colorScheme = dark ? 'light' : 'dark';
}

async function copyLink(button) {
  address(store.state);
  try {
    await navigator.clipboard.writeText(location.href);
    button.textContent = 'Link copied';
  } catch {
    button.textContent = 'Link is in the address bar';
  }
  setTimeout(() => { button.textContent = 'Copy link'; }, 2500);
}

function keys(event) {
  const typing = event.target.closest?.('input, select, textarea, button, summary, a, pre');
  if ((event.ctrlKey || event.metaKey) && event.key === 'z' && event.target.type !== 'text' && event.target.type !== 'number') {
    event.preventDefault();
    store.undo();
  } else if (!typing && event.key === ' ') {
    event.preventDefault();
    player.toggle();
  } else if (!typing && (event.key === 'ArrowRight' || event.key === 'ArrowLeft')) {
    player.nudge(event.key === 'ArrowRight' ? 1 : -1);
  }
}

const tour = new Tour(find('#tour'), guide, () => { view.predicting = false; ask(); });
build();
find('#tour-start').addEventListener('click', () => tour.open());
find('#share').addEventListener('click', (event) => copyLink(event.target));
find('#picture').addEventListener('click', () => picture(view));
find('#save').addEventListener('click', () => saveState(view));
find('#theme').addEventListener('click', theme);
find('#numbers').addEventListener('toggle', ask);
document.addEventListener('keydown', keys);
addEventListener('hashchange', () => load(fromAddress(), false));
stale = true;
ask();
