// The picture and the state as files.

import { download, svg } from './dom.js';
import { plane } from './panels/plane.js';
import { policies } from './panels/policies.js';
import { claimOf, story } from './story.js';
import { wrapped } from './words.js';

const WIDE = 1200;
const HEIGHT = 640;
const COLOURS = ['bg', 'card', 'ink', 'soft', 'rule', 'tint', 'ref', 'star', 'rlhf', 'dpo', 'ipo', 'kto', 'simpo', 'orpo', 'dpop', 'dpo_norm', 'run'];

/** The first screen as a PNG of 1,200 by 640 points, twice as many pixels. */
export async function picture(view) {
  const text = new XMLSerializer().serializeToString(composed(view));
  const image = new Image();
  const url = URL.createObjectURL(new Blob([text], { type: 'image/svg+xml' }));
  image.src = url;
  await image.decode();
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [2 * WIDE, 2 * HEIGHT];
  canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(url);
  canvas.toBlob((blob) => download('dpo-vs-rlhf.png', blob, 'image/png'));
}

function composed(view) {
  const bars = inner(policies, view, 670, { x: 30, y: 130 });
  const map = inner(plane, view, 450, { x: 725, y: 130 });
  const claim = wrapped(claimOf(view.state), 120, 2).map((line, k) => svg('text', { class: 'claim-line', x: 30, y: 82 + 22 * k }, line));
  return svg('svg', { width: WIDE, height: HEIGHT, viewBox: `0 0 ${WIDE} ${HEIGHT}` },
    svg('style', {}, `${document.querySelector('style').textContent}\n:root{${resolved()}} svg{font-family:system-ui,sans-serif}`),
    svg('rect', { class: 'ground', width: WIDE, height: HEIGHT }),
    svg('text', { class: 'answer name', x: 30, y: 50 }, 'DPO vs RLHF'),
    ...claim, bars, map,
    svg('text', { class: 'tick', x: 30, y: HEIGHT - 18 }, `accord play · step ${Math.round(view.t)} · β = ${view.state.beta}`));
}

function inner(panel, view, width, at) {
  const element = svg('svg', { ...at, width });
  panel.draw(element, view, width);
  return element;
}

/** Colours as they are now, light or dark: a picture has no scheme of its own. */
function resolved() {
  const probe = document.body.appendChild(document.createElement('i'));
  const values = COLOURS.map((name) => {
    probe.style.color = `var(--${name})`;
    return `--${name}:${getComputedStyle(probe).color}`;
  });
  probe.remove();
  return values.join(';');
}

/** The state and the figures it leads to. */
export function saveState(view) {
  const policy = (logp) => logp.map((value) => Math.exp(value));
  const policies = Object.fromEntries(view.state.methods.map((method) => [method, policy(view.derived.at(method, view.t))]));
  const content = { made_by: 'accord play', step: Math.round(view.t), link: location.hash, state: view.state, optimum: policy(view.derived.star), policies, says: story(view) };
  download('playground.json', JSON.stringify(content, null, 1), 'application/json');
}
