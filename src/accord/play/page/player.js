// Play, pause, step: time is the number of updates made.

import { html } from './dom.js';

const SECONDS = 5; // from the first update to the last
const JUMPS = 8; // with reduced motion: as many still pictures instead

export class Player {
  /** link: { still, steps, time, move }: is motion unwelcome, how many steps, where are we, go there. */
  constructor(element, link) {
    Object.assign(this, { link, playing: false });
    this.button = html('button', { type: 'button', class: 'next play', id: 'play', on: { click: () => this.toggle() } }, '▶ Play');
    const step = (by, sign, label) => html('button', { type: 'button', class: 'quiet', 'aria-label': label, on: { click: () => this.nudge(by) } }, sign);
    this.range = html('input', { type: 'range', min: 0, step: 1, 'aria-label': 'training step', on: { input: () => { this.pause(); link.move(Number(this.range.value)); } } });
    this.text = html('output', {});
    element.append(this.button, step(-1, '‹', 'one step back'), step(1, '›', 'one step on'), html('label', { class: 'scrub' }, this.text, this.range));
  }

  show(t, steps) {
    this.range.max = steps;
    this.range.value = Math.round(t);
    this.range.style.setProperty('--at', `${(100 * t) / steps}%`);
    this.text.textContent = `step ${Math.round(t).toLocaleString('en')} of ${steps.toLocaleString('en')}`;
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play(this.link.time() >= this.link.steps() ? 0 : this.link.time());
  }

  play(from) {
    clearTimeout(this.timer);
    this.link.move(from);
    this.set(true);
    this.last = null;
    if (this.link.still()) this.timer = setTimeout(() => this.jump(), 700);
    else requestAnimationFrame((now) => this.tick(now));
  }

  pause() {
    clearTimeout(this.timer);
    this.set(false);
  }

  nudge(by) {
    this.pause();
    this.link.move(Math.round(this.link.time()) + by);
  }

  tick(now) {
    if (!this.playing) return;
    const passed = this.last === null ? 0 : Math.min(0.1, (now - this.last) / 1000);
    this.last = now;
    this.forward((passed / SECONDS) * this.link.steps());
    if (this.playing) requestAnimationFrame((later) => this.tick(later));
  }

  jump() {
    if (!this.playing) return;
    this.forward(this.link.steps() / JUMPS);
    if (this.playing) this.timer = setTimeout(() => this.jump(), 700);
  }

  /** At the end it has stopped before the last frame is drawn, so that this frame is told as settled. */
  forward(by) {
    const to = this.link.time() + by;
    if (to >= this.link.steps()) this.set(false);
    this.link.move(to);
  }

  set(playing) {
    this.playing = playing;
    this.button.textContent = playing ? '❚❚ Pause' : '▶ Play';
  }
}
