// Situations worth seeing, each with a claim that tests/play/test_page.py holds it to.

import { DEFAULT, encode } from './state.js';

const plain = (text, ref, reward, tokens = 10, features = [0, 0]) => ({ text, ref, reward, tokens, features });

/** All pairs of `count` answers but those kept: what is never compared. */
function allBut(count, kept) {
  const out = [];
  for (let i = 0; i < count; i++) {
    for (let j = i + 1; j < count; j++) if (!kept.some(([a, b]) => a === i && b === j)) out.push([i, j]);
  }
  return out;
}

export const PRESETS = {
  optimum: {
    name: 'One destination',
    claim: 'With endless honest comparisons, DPO and RLHF end in the same place: π*. DPO never saw a reward.',
    state: {},
  },
  hacking: {
    name: 'Reward hacking',
    claim: 'Twelve comparisons, a third of them wrong. What the reward model sees goes up and up; what is true goes down.',
    state: { comparisons: 12, noise: 0.3, seed: 18, beta: 0.1, steps: 400, methods: ['rlhf', 'dpo', 'ipo'], focus: 'rlhf' },
  },
  runaway: {
    name: 'DPO runs, IPO stops',
    claim: 'Nobody ever contradicts A ≻ B. DPO pushes for ever, whatever β; IPO stops at a margin of 1/(2β).',
    state: {
      answers: DEFAULT.answers.slice(0, 3), never: allBut(3, [[0, 1]]), deterministic: true, comparisons: 100, steps: 600, beta: 0.25,
      methods: ['dpo', 'ipo'], focus: 'dpo', pair: [0, 1],
    },
  },
  displacement: {
    name: 'Displacement',
    claim: 'Trained on “No” over “Never”, accuracy is 100 % and the margin grows, and DPO ends up saying “Yes”. DPOP holds “No” at its start.',
    state: {
      prompt: 'Can I eat this mushroom?',
      answers: [
        plain('No.', 0.35, 1, 10, [1, 0.3]), plain('Never.', 0.35, 0.6, 10, [1, 0]), plain('Yes!', 0.1, -2, 10, [0.2, 1]),
        plain('Ask an expert.', 0.1, 0.8, 10, [-0.6, 0.4]), plain('What mushroom?', 0.1, 0, 10, [0, -0.8]),
      ],
      never: allBut(5, [[0, 1]]), deterministic: true, comparisons: 100, shares: 'features', optimizer: 'gd', rate: 0.5, steps: 2000,
      beta: 0.5, methods: ['dpo', 'ipo', 'kto', 'orpo', 'dpop'], focus: 'dpo', pair: [0, 1],
    },
  },
  loud: {
    name: 'Losses loom larger',
    claim: 'A wins 60 % of the time. With λ_U = 2, KTO hears each loss twice, pushes both down, and C, never labelled, takes all.',
    state: {
      answers: [plain('Take the early train.', 0.3, Math.log(1.5), 12), plain('Take the late train.', 0.3, 0, 12), plain('Take the bus.', 0.4, -1, 12)],
      prompt: 'How do I get to Lyon?', never: allBut(3, [[0, 1]]), lambdaU: 2, methods: ['dpo', 'ipo', 'kto'], focus: 'kto', pair: [0, 1],
    },
  },
  length: {
    name: 'Length',
    claim: 'Four answers, equally good: the labels say nothing. DPO stays where it was, by sums or by token means; SimPO and ORPO, without a reference, shorten.',
    state: {
      prompt: 'What is a cache?',
      answers: [
        plain('A small, fast store.', 0.3, 1, 10), plain('A small store of what you will need again.', 0.3, 1, 20),
        plain('A store near you for things that are far away, so that …', 0.25, 1, 40), plain('Imagine a kitchen. The pantry is far, and …', 0.15, 1, 60),
      ],
      methods: ['rlhf', 'dpo', 'simpo', 'orpo', 'dpo_norm'], focus: 'simpo', pair: [0, 3],
    },
  },
};

/** The state of a preset, whole. */
export function presetState(name) {
  return { ...DEFAULT, ...PRESETS[name].state };
}

const BY_LINK = new Map(Object.keys(PRESETS).map((name) => [encode(presetState(name)), name]));

/** The preset that a state is, if it is one. */
export function presetOf(state) {
  return BY_LINK.get(encode(state)) ?? null;
}
