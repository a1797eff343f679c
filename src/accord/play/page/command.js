// What is on the screen as an accord command, and the comparisons as a file that it reads.

const number = (value) => String(Number(value.toPrecision(4)));

/** `--set` options of a method as the page trains it, by accord's own names. */
const OPTIONS = {
  dpo: (s) => ({ beta: s.beta }),
  ipo: (s) => ({ beta: s.beta, normalize: s.normalize }),
  kto: (s) => ({ beta: s.beta, desirable_weight: s.lambdaD, undesirable_weight: s.lambdaU }),
  simpo: (s) => ({ beta: s.simpoBeta, gamma_beta_ratio: s.gammaRatio }),
  orpo: (s) => ({ weight: s.orpoWeight }),
};

/** The options of a method, or null for RLHF, which trains no single objective. */
export function options(state, method) {
  return OPTIONS[method]?.(state) ?? null;
}

export function command(state) {
  const found = options(state, state.focus);
  if (!found) return null;
  const sets = Object.entries(found).map(([key, value]) => `--set objective.${key}=${typeof value === 'number' ? number(value) : value}`);
  return ['accord train --model smollm2 --data pairs.jsonl', `--method ${state.focus}`, ...sets, `--output runs/${state.focus}`].join(' \\\n    ');
}

const MOST_ROWS = 1000;

/** The comparisons as JSONL rows; endless ones as a thousand, in proportion. */
export function pairsFile(state, rows) {
  const lines = [];
  const scale = state.comparisons === 0 || state.comparisons > MOST_ROWS ? (share) => Math.round(MOST_ROWS * share) : (share, count) => count;
  for (const { w, l, share, count } of rows) {
    const line = JSON.stringify({ prompt: state.prompt, chosen: state.answers[w].text, rejected: state.answers[l].text });
    for (let k = 0; k < scale(share, count); k++) lines.push(line);
  }
  return `${lines.join('\n')}\n`;
}
