// From the page to a real run: the command, the data, the state, the picture.

import { command, pairsFile } from '../command.js';
import { download, html } from '../dom.js';
import { NAMES } from '../words.js';

export const use = {
  id: 'use',
  title: 'Do it with a language model',
  says: 'The accord command for what is on the screen. Real answers share far more than two features.',
  controls: ['focus'],
  build(store) {
    const code = html('pre', { tabindex: 0, 'aria-label': 'command' });
    let rows = [];
    const copy = html('button', { type: 'button', on: { click: () => copied(copy, code.textContent) } }, 'Copy');
    const data = html('button', { type: 'button', on: { click: () => download('pairs.jsonl', pairsFile(store.state, rows), 'application/jsonl') } }, 'Download pairs.jsonl');
    const draw = ({ state, derived }) => {
      rows = derived.rows;
      const text = command(state);
      code.textContent = text ?? `${NAMES[state.focus]} is no single objective: accord has no command for it. Choose another method.`;
      copy.disabled = !text;
    };
    return { element: html('div', {}, code, html('p', { class: 'buttons' }, copy, data)), draw };
  },
};

/** The clipboard may be out of reach, as on file:// in some browsers: then the text is selected instead. */
async function copied(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    getSelection().selectAllChildren(button.closest('section').querySelector('pre'));
    button.textContent = 'Selected: press Ctrl+C';
  }
  setTimeout(() => { button.textContent = 'Copy'; }, 2500);
}
