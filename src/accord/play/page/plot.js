// A small plotting surface on SVG: scales, axes, lines, dots, and labels that stand at their lines' ends.

import { svg } from './dom.js';
import { short } from './words.js';

// px of a letter of the labels, to keep them inside and apart; of strong ones, and of their capitals
const CHARACTER = 6.7;
const [STRONG, CAPITAL] = [7.6, 9.6];

function lengthOf({ text, kind }) {
  if (!kind.includes('strong')) return text.length * CHARACTER;
  return [...text].reduce((sum, letter) => sum + (letter >= 'A' && letter <= 'Z' ? CAPITAL : STRONG), 0);
}

/** Round numbers between two values: steps of 1, 2 or 5 times a power of ten. */
export function ticks(low, high, about = 4) {
  const raw = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const out = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) out.push(k * step);
  return out;
}

export class Plot {
  /** x, y: [low, high]. A value outside is drawn at the edge. */
  constructor(width, height, { x, y, xLabel, yLabel, left = 40, right = 14, top = 14, bottom = 36, about = 4 }) {
    Object.assign(this, { width, height, left, right, top, bottom });
    this.xRange = widen(x);
    this.yRange = widen(y);
    this.parts = [];
    this.frame(xLabel, yLabel, about);
  }

  x(value) {
    const [low, high] = this.xRange;
    return this.left + (clamp((value - low) / (high - low)) * (this.width - this.left - this.right));
  }

  y(value) {
    const [low, high] = this.yRange;
    return this.height - this.bottom - clamp((value - low) / (high - low)) * (this.height - this.top - this.bottom);
  }

  add(tag, attributes, ...children) {
    this.parts.push(svg(tag, attributes, ...children));
    return this;
  }

  frame(xLabel, yLabel, about) {
    const foot = this.height - this.bottom;
    for (const value of ticks(...this.yRange, about)) {
      const y = this.y(value).toFixed(1);
      this.add('line', { class: 'grid', x1: this.left, x2: this.width - this.right, y1: y, y2: y });
      this.add('text', { class: 'tick', x: this.left - 6, y, dy: 4, 'text-anchor': 'end' }, short(value));
    }
    for (const value of ticks(...this.xRange, Math.max(2, Math.floor(this.width / 110)))) {
      this.add('text', { class: 'tick', x: this.x(value).toFixed(1), y: foot + 15, 'text-anchor': 'middle' }, short(value));
    }
    if (xLabel) this.add('text', { class: 'axis', x: this.width - this.right, y: this.height - 4, 'text-anchor': 'end' }, xLabel);
    if (yLabel) this.add('text', { class: 'axis', x: 0, y: 10 }, yLabel);
  }

  /** Of many points each drawn one is the mean of those around it: a policy that steps to and fro would look like a scribble. */
  path(points, { thin = 400 } = {}) {
    const every = Math.max(1, Math.ceil(points.length / thin));
    const kept = [];
    for (let k = 0; k < points.length; k += every) kept.push(every > 1 && k && k + every < points.length ? mean(points.slice(k - every, k + every)) : points[k]);
    if ((points.length - 1) % every) kept.push(points.at(-1));
    return kept.map(([x, y], k) => `${k ? 'L' : 'M'}${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`).join('');
  }

  line(points, kind) {
    return points.length ? this.add('path', { class: `line ${kind}`, d: this.path(points) }) : this;
  }

  /** What lies between two curves of equal length. */
  area(upper, lower, kind) {
    return this.add('path', { class: kind, d: `${this.path(upper)}${this.path([...lower].reverse()).replace('M', 'L')}Z` });
  }

  level(y, kind = 'level') {
    return this.line([[this.xRange[0], y], [this.xRange[1], y]], kind);
  }

  upright(x, kind = 'level') {
    return this.line([[x, this.yRange[0]], [x, this.yRange[1]]], kind);
  }

  dot(x, y, kind, r = 4.5) {
    return this.add('circle', { class: `dot ${kind}`, cx: this.x(x).toFixed(1), cy: this.y(y).toFixed(1), r });
  }

  text(x, y, content, kind = '', { dx = 0, dy = 0, anchor = 'start' } = {}) {
    return this.add('text', { class: `label ${kind}`, x: (this.x(x) + dx).toFixed(1), y: (this.y(y) + dy).toFixed(1), 'text-anchor': anchor }, content);
  }

  /** Labels beside their points, moved apart: [{ x, y, text, kind }]. On the left of a point where there is no room. */
  labels(entries, gap = 14) {
    const placed = entries
      .map((entry) => ({ ...entry, px: this.x(entry.x) + 9, py: this.y(entry.y), wide: lengthOf(entry) }))
      .sort((a, b) => a.py - b.py);
    for (const one of placed) if (one.px + one.wide > this.width - 2) Object.assign(one, { px: one.px - 18, flip: true });
    const span = (one) => (one.flip ? [one.px - one.wide, one.px] : [one.px, one.px + one.wide]);
    const near = (a, b) => span(a)[0] < span(b)[1] && span(b)[0] < span(a)[1];
    for (let k = 1; k < placed.length; k++) {
      for (let m = 0; m < k; m++) if (near(placed[m], placed[k]) && placed[k].py < placed[m].py + gap) placed[k].py = placed[m].py + gap;
    }
    // Those that were pushed out below come back up, pushing the ones above them.
    for (let k = placed.length - 1; k >= 0; k--) {
      placed[k].py = Math.min(placed[k].py, this.height - this.bottom - 2);
      for (let m = k + 1; m < placed.length; m++) if (near(placed[k], placed[m])) placed[k].py = Math.min(placed[k].py, placed[m].py - gap);
    }
    for (const one of placed) {
      this.add('text', { class: `label ${one.kind}`, x: one.px.toFixed(1), y: one.py.toFixed(1), dy: 4, 'text-anchor': one.flip ? 'end' : 'start' }, one.text);
    }
    return this;
  }

  into(element, says) {
    element.setAttribute('viewBox', `0 0 ${this.width} ${this.height}`);
    element.setAttribute('height', this.height);
    element.setAttribute('aria-label', says);
    element.replaceChildren(...this.parts);
  }
}

function mean(points) {
  return [0, 1].map((i) => points.reduce((sum, point) => sum + point[i], 0) / points.length);
}

function clamp(share) {
  return Math.min(1, Math.max(0, share));
}

function widen([low, high]) {
  return high - low > 1e-9 ? [low, high] : [low - 0.5, high + 0.5];
}
