// Six steps. Each ends in a question to answer before looking.

import { html } from './dom.js';
import { presetState } from './presets.js';

export const STEPS = [
  {
    preset: 'optimum', look: 'plane',
    text: 'RLHF maximises reward minus β times the KL from the start. The best policy has a closed form, π* ∝ π_ref · exp(r/β), and every policy lives under the grey line.',
    ask: 'DPO gets comparisons only, never a reward. Where will it end?',
    answers: ['Short of π*', 'At π*', 'Beyond π*'], right: 1,
    because: 'At π*. The reward can be read off the policy, r = β log π/π_ref + const, so DPO fits a reward model whose optimum is the policy itself.',
  },
  {
    preset: 'hacking', look: 'hacking',
    text: 'Twelve comparisons, nearly a third of them mislabelled. The reward model likes the flatterer, D. RLHF is told to maximise what the model sees.',
    ask: 'As RLHF trains longer, the true reward …',
    answers: ['keeps rising', 'rises, then falls', 'falls at once'], right: 1,
    because: 'It rises, then falls: first the errors average out, then they are what is being maximised. DPO, on the same comparisons, inherits the same errors.',
  },
  {
    preset: 'runaway', look: 'margins',
    text: 'A beats B every single time. To DPO that says: an infinite difference in reward. Its loss has no minimum.',
    ask: 'You make β ten times larger, to hold DPO near the start. What happens?',
    answers: ['It stops at a finite margin', 'It still runs, only slower', 'Nothing moves'], right: 1,
    because: 'It still runs. Without contradiction β only sets the pace. IPO asks for a margin of exactly 1/(2β), and stops there.',
  },
  {
    preset: 'displacement', look: 'displacement',
    text: '“No.” is preferred to “Never.” The two look alike to the model; “Yes!” looks more like “No.” does, minus what “Never.” is.',
    ask: 'DPO reaches 100 % accuracy and a growing margin. What does the model now say?',
    answers: ['No.', 'Never.', 'Yes!'], right: 2,
    because: 'Yes! Only the difference between the two counts, and the direction that parts them points past both. Watch log-probs, not margins.',
  },
  {
    preset: 'loud', look: 'kto',
    text: 'KTO needs no pairs: each answer is good or bad by itself. A wins 60 % of its comparisons with B. Losses weigh double: λ_U = 2.',
    ask: 'Which answer does KTO end up with?',
    answers: ['A, the favourite', 'a mix of A and B', 'C, never labelled'], right: 2,
    because: 'C. An answer rises only if it is good more often than λ_U/(λ_D+λ_U) = 67 % of the time. A and B both fall, and what they lose goes to C.',
  },
  {
    preset: 'length', look: 'lengths',
    text: 'Four answers, equally good, of 10 to 60 tokens. Annotators flip coins. There is nothing to learn.',
    ask: 'Which objective changes the length of the answers all the same?',
    answers: ['DPO', 'SimPO', 'none'], right: 1,
    because: 'SimPO. It wants equal log-probs per token, and has no reference that says where it began: long answers lose. DPO stays put. Now move “love of length”.',
  },
];

export class Tour {
  /** show: called with a step's state, the panel to look at, and whether to play; left: called when the tour is over. */
  constructor(element, show, left) {
    Object.assign(this, { element, show, left, at: -1 });
    element.addEventListener('keydown', (event) => event.key === 'Escape' && this.close());
  }

  open(at = 0) {
    this.at = at;
    const step = STEPS[at];
    this.show(presetState(step.preset), step.look, false);
    this.element.hidden = false;
    this.element.replaceChildren(...this.parts(step));
    this.element.querySelector('h2').focus();
  }

  close() {
    this.element.hidden = true;
    this.left();
    document.querySelector('#tour-start')?.focus();
  }

  parts(step) {
    const verdict = html('p', { class: 'verdict', role: 'status' });
    const buttons = step.answers.map((answer, k) => html('button', { type: 'button', on: { click: () => this.judge(step, k, buttons, verdict) } }, answer));
    const last = this.at === STEPS.length - 1;
    return [
      html('h2', { tabindex: -1 }, `Step ${this.at + 1} of ${STEPS.length}`),
      html('p', {}, step.text), html('p', { class: 'ask' }, step.ask), html('p', { class: 'buttons' }, ...buttons), verdict,
      html('p', { class: 'buttons moves' },
        html('button', { type: 'button', class: 'quiet', on: { click: () => this.close() } }, 'Leave'),
        this.at > 0 ? html('button', { type: 'button', class: 'quiet', on: { click: () => this.open(this.at - 1) } }, 'Back') : null,
        html('button', { type: 'button', class: 'next', on: { click: () => (last ? this.close() : this.open(this.at + 1)) } }, last ? 'Done' : 'Next')),
    ];
  }

  /** Only now does the training play. */
  judge(step, chosen, buttons, verdict) {
    buttons.forEach((button, k) => { button.disabled = true; if (k === step.right) button.classList.add('right'); else if (k === chosen) button.classList.add('wrong'); });
    verdict.textContent = `${chosen === step.right ? 'Yes.' : 'No.'} ${step.because}`;
    this.show(null, step.look, true);
  }
}
