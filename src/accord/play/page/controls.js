// Sliders, switches and choices bound to the store. One description of each, wherever it appears.

import { html } from './dom.js';
import { BOUNDS } from './state.js';
import { NAMES, letter, short } from './words.js';

const log = (low, high) => ({ to: (s) => low * (high / low) ** s, from: (v) => Math.log(v / low) / Math.log(high / low) });
const linear = (low, high) => ({ to: (s) => low + s * (high - low), from: (v) => (v - low) / (high - low) });
/** 10 … 20,000 on a log scale, and at the far right endless data, which the state writes as 0. */
const endless = {
  to: (s) => (s > 0.97 ? 0 : 4 * (20000 / 4) ** (s / 0.97)),
  from: (v) => (v === 0 ? 1 : (0.97 * Math.log(v / 4)) / Math.log(20000 / 4)),
};
/** At the far left: live, which the state writes as null. */
const live = { to: (s) => (s < 0.02 ? null : 4 * s), from: (v) => (v === null ? 0 : v / 4) };
const percentOf = (v) => `${Math.round(100 * v)} %`;

export const CONTROLS = {
  beta: { label: 'β, how near to stay', scale: log(...BOUNDS.beta), show: short },
  comparisons: { label: 'comparisons', scale: endless, show: (v) => (v === 0 ? '∞' : v.toLocaleString('en')) },
  noise: { label: 'labels flipped', scale: linear(...BOUNDS.noise), show: percentOf },
  lengthBias: { label: 'love of length', scale: linear(...BOUNDS.lengthBias), show: short },
  seed: { label: 'seed', scale: linear(0, 100), show: String },
  steps: { label: 'steps', scale: log(...BOUNDS.steps), show: String },
  rate: { label: 'learning rate', scale: log(...BOUNDS.rate), show: short },
  lambdaD: { label: 'λ_D, gains', scale: log(...BOUNDS.lambdaD), show: short },
  lambdaU: { label: 'λ_U, losses', scale: log(...BOUNDS.lambdaU), show: short },
  z0: { label: 'z0', scale: live, show: (v) => (v === null ? 'live KL' : short(v)) },
  simpoBeta: { label: 'SimPO’s β', scale: linear(...BOUNDS.simpoBeta), show: short },
  gammaRatio: { label: 'margin γ/β', scale: linear(...BOUNDS.gammaRatio), show: short },
  orpoWeight: { label: 'ORPO’s λ', scale: log(...BOUNDS.orpoWeight), show: short },
  dpopPenalty: { label: 'DPOP’s λ, price of a fall', scale: linear(...BOUNDS.dpopPenalty), show: short },
  normBeta: { label: 'DPO-norm’s β, of token means', scale: log(...BOUNDS.normBeta), show: short },
  deterministic: { label: 'nobody ever errs (deterministic)', toggle: true },
  shares: { label: 'answers share', options: { none: 'nothing', features: 'two features' } },
  optimizer: { label: 'optimizer', options: { adam: 'Adam', gd: 'gradient descent' } },
  rl: { label: 'RLHF by', options: { exact: 'exact policy gradient', ppo: 'PPO, clipped' } },
  normalize: { label: 'IPO on', options: { sequence_sum: 'sums', token_mean: 'token means' } },
  focus: { label: 'method', options: (state) => Object.fromEntries(state.methods.map((name) => [name, NAMES[name]])) },
};
const FINE = 400; // positions of a slider

/** The control of a name: an element, and what to do when the state has changed. */
export function control(name, store) {
  if (name === 'pair') return pairControl(store);
  const about = CONTROLS[name];
  if (about.toggle) return toggle(name, about, store);
  return about.options ? choice(name, about, store) : slider(name, about, store);
}

function slider(name, { label, scale, show }, store) {
  const input = html('input', { type: 'range', min: 0, max: FINE, step: 1, 'aria-label': label });
  const value = html('output', {});
  input.addEventListener('input', () => store.set({ [name]: tidy(scale.to(input.value / FINE)) }));
  input.addEventListener('change', () => store.commit());
  const refresh = (state) => {
    if (document.activeElement !== input || !store.open) input.value = Math.round(FINE * scale.from(state[name]));
    value.textContent = show(state[name]);
    input.setAttribute('aria-valuetext', show(state[name]));
    input.style.setProperty('--at', `${input.value / (FINE / 100)}%`);
  };
  return { element: html('label', { class: `control ${name}` }, html('span', {}, label), value, input), refresh };
}

/** Three significant digits: a slider's position is no more exact, and a link stays short. */
function tidy(value) {
  return value === null ? null : Number(value.toPrecision(3));
}

function toggle(name, { label }, store) {
  const input = html('input', { type: 'checkbox', on: { change: () => store.commit({ [name]: input.checked }) } });
  return { element: html('label', { class: 'control toggle' }, input, html('span', {}, label)), refresh: (state) => { input.checked = state[name]; } };
}

function choice(name, { label, options }, store) {
  const select = html('select', { 'aria-label': label, on: { change: () => store.commit({ [name]: select.value }) } });
  let listed = '';
  const refresh = (state) => {
    const entries = Object.entries(typeof options === 'function' ? options(state) : options);
    if (String(entries) !== listed) select.replaceChildren(...entries.map(([value, text]) => html('option', { value }, text)));
    listed = String(entries);
    select.value = state[name];
  };
  return { element: html('label', { class: 'control choice' }, html('span', {}, label), select), refresh };
}

/** Which pair the panels look at: chosen ≻ rejected. */
function pairControl(store) {
  const selects = [0, 1].map((side) => html('select', { 'aria-label': side ? 'rejected answer' : 'chosen answer', on: { change: () => pick(side) } }));
  const pick = (side) => {
    const pair = selects.map((select) => Number(select.value));
    if (pair[0] === pair[1]) pair[1 - side] = store.state.pair[side]; // the other answer was picked: they change places
    store.commit({ pair });
  };
  const refresh = (state) => {
    for (const [side, select] of selects.entries()) {
      if (select.length !== state.answers.length) select.replaceChildren(...state.answers.map((_, i) => html('option', { value: i }, letter(i))));
      select.value = state.pair[side];
    }
  };
  return { element: html('span', { class: 'control choice' }, html('span', {}, 'pair'), selects[0], '≻', selects[1]), refresh };
}
