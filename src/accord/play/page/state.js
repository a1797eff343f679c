// The one state that all panels read. Plain data: it travels in the URL, in a file, and through undo.

const METHOD_NAMES = ['rlhf', 'dpo', 'ipo', 'kto', 'simpo', 'orpo', 'dpop', 'dpo_norm'];
const FIRST_SHOWN = METHOD_NAMES.slice(0, 6); // more are a click away: eight columns would be too narrow to begin with
export const MOST_ANSWERS = 8;
export const FEWEST_ANSWERS = 3;

function answer(text, ref, reward, tokens, features) {
  return { text, ref, reward, tokens, features };
}

export const DEFAULT = Object.freeze({
  prompt: 'Is it safe to eat snow?',
  answers: [
    answer('Fresh white snow, yes. Never the yellow kind.', 0.15, 2, 24, [1, 0.3]),
    answer('Usually, if it is clean.', 0.3, 1.2, 14, [0.6, 0]),
    answer('Yes.', 0.25, 0.6, 8, [0.2, -0.6]),
    answer('Great question! Snow is a wonderful thing, and so are you …', 0.2, 0.3, 40, [-0.3, 0.9]),
    answer('Snow is frozen clouds.', 0.1, -0.5, 10, [-0.6, -0.4]),
  ],
  beta: 0.5,
  comparisons: 0, // 0: exact preferences, as from endless data
  noise: 0,
  deterministic: false,
  lengthBias: 0,
  never: [],
  seed: 1,
  shares: 'none',
  rl: 'exact',
  optimizer: 'adam',
  rate: 0.05,
  steps: 300,
  normalize: 'sequence_sum',
  lambdaD: 1,
  lambdaU: 1,
  z0: null, // null: the live KL
  simpoBeta: 2,
  gammaRatio: 0.5,
  orpoWeight: 0.25,
  dpopPenalty: 5,
  normBeta: 5,
  methods: FIRST_SHOWN,
  pair: [0, 1],
  focus: 'dpo',
});

// What a number may be; a link or a file from a stranger is held to it.
export const BOUNDS = {
  beta: [0.02, 5], comparisons: [0, 20000], noise: [0, 0.5], lengthBias: [-2, 2], seed: [0, 9999], rate: [0.001, 1], steps: [10, 3000],
  lambdaD: [0.1, 4], lambdaU: [0.1, 4], z0: [0, 4], simpoBeta: [0.5, 10], gammaRatio: [0, 2], orpoWeight: [0.01, 2],
  dpopPenalty: [0, 50], normBeta: [0.1, 10],
};
const WHOLE = new Set(['comparisons', 'seed', 'steps']);
const CHOICES = {
  shares: ['none', 'features'], rl: ['exact', 'ppo'], optimizer: ['adam', 'gd'], normalize: ['sequence_sum', 'token_mean'], focus: METHOD_NAMES,
};

function bounded(value, [low, high], fallback) {
  return typeof value === 'number' && Number.isFinite(value) ? Math.min(high, Math.max(low, value)) : fallback;
}

function soundAnswer(one) {
  const text = typeof one?.text === 'string' ? one.text.slice(0, 200) : '…';
  const features = [0, 1].map((k) => bounded(one?.features?.[k], [-2, 2], 0));
  return answer(text, bounded(one?.ref, [0.001, 1], 0.1), bounded(one?.reward, [-4, 4], 0), Math.round(bounded(one?.tokens, [1, 200], 10)), features);
}

function indexPairs(value, count) {
  const ok = (pair) => Array.isArray(pair) && pair.length === 2 && pair.every((i) => Number.isInteger(i) && i >= 0 && i < count) && pair[0] !== pair[1];
  return Array.isArray(value) ? value.filter(ok) : [];
}

/** Any object as a state: what is missing or out of bounds becomes the default or the nearest bound. */
export function sound(candidate) {
  const given = candidate && typeof candidate === 'object' ? candidate : {};
  const out = { ...DEFAULT };
  for (const [key, range] of Object.entries(BOUNDS)) {
    out[key] = key === 'z0' && given.z0 === null ? null : bounded(given[key], range, DEFAULT[key]);
    if (WHOLE.has(key)) out[key] = Math.round(out[key]);
  }
  for (const [key, values] of Object.entries(CHOICES)) if (values.includes(given[key])) out[key] = given[key];
  if (typeof given.prompt === 'string') out.prompt = given.prompt.slice(0, 200);
  if (typeof given.deterministic === 'boolean') out.deterministic = given.deterministic;
  if (Array.isArray(given.answers) && given.answers.length >= FEWEST_ANSWERS) out.answers = given.answers.slice(0, MOST_ANSWERS).map(soundAnswer);
  const count = out.answers.length;
  out.never = indexPairs(given.never, count).filter(([i, j]) => i < j);
  if (new Set(out.never.map(String)).size >= (count * (count - 1)) / 2) out.never = []; // something has to be compared
  out.pair = indexPairs([given.pair], count)[0] ?? DEFAULT.pair;
  if (Array.isArray(given.methods)) out.methods = METHOD_NAMES.filter((name) => given.methods.includes(name));
  if (out.methods.length && !out.methods.includes(out.focus)) [out.focus] = out.methods;
  return out;
}

/** What differs from the defaults, as text that a URL can hold. */
export function encode(state) {
  const changed = Object.entries(state).filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(DEFAULT[key]));
  const bytes = new TextEncoder().encode(JSON.stringify(Object.fromEntries(changed)));
  return btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

/** The state in a URL's text; the defaults where the text is broken. */
export function decode(text) {
  try {
    const bytes = Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
    return sound({ ...DEFAULT, ...JSON.parse(new TextDecoder().decode(bytes)) });
  } catch {
    return sound({});
  }
}

/** Holds the state, tells who listens, and remembers what came before: a whole drag of a slider is one step back. */
export class Store {
  constructor(state) {
    this.state = sound(state);
    this.past = [];
    this.listeners = [];
    this.open = false;
  }

  subscribe(listener) {
    this.listeners.push(listener);
  }

  /** Change live, as while a slider is dragged. */
  set(patch) {
    if (!this.open) this.past.push(this.state);
    if (this.past.length > 100) this.past.shift();
    this.open = true;
    this.state = sound({ ...this.state, ...patch });
    this.tell();
  }

  /** The change is done: the next one is another step back. */
  commit(patch) {
    if (patch) this.set(patch);
    this.open = false;
    this.tell();
  }

  undo() {
    if (!this.past.length) return;
    this.state = this.past.pop();
    this.open = false;
    this.tell();
  }

  tell() {
    for (const listener of this.listeners) listener(this.state, this.open);
  }
}
