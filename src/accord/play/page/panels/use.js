// From the page to a real run: the commands.

import { command } from '../command.js';
import { html } from '../dom.js';

export const use = {
  id: 'use',
  title: 'Do it with a language model',
  says: 'The accord command for what is on the screen, on a file of your own: many prompts, each pair once. The comparisons here are of one prompt and repeat themselves; accord audit would call a file of them unfit. Real answers share far more than two features. RLHF’s whole way, with the comparison to DPO, is accord rlhf.',
  controls: ['focus'],
  build() {
    const code = html('pre', { tabindex: 0, 'aria-label': 'command' });
    const copy = html('button', { type: 'button', on: { click: () => copied(copy, code.textContent) } }, 'Copy');
    const draw = ({ state }) => { code.textContent = command(state); };
    return { element: html('div', {}, code, html('p', { class: 'buttons' }, copy)), draw };
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
