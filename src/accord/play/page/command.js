// What is on the screen as accord commands. Their data is your own: the comparisons of this page are of one prompt.

const number = (value) => String(Number(value.toPrecision(4)));

/** `--set` options of a method as the page trains it, by accord's own names. RLHF's are those of PPO. */
const OPTIONS = {
  rlhf: (s) => ({ beta: s.beta }),
  dpo: (s) => ({ beta: s.beta }),
  ipo: (s) => ({ beta: s.beta, normalize: s.normalize }),
  kto: (s) => ({ beta: s.beta, desirable_weight: s.lambdaD, undesirable_weight: s.lambdaU }),
  simpo: (s) => ({ beta: s.simpoBeta, gamma_beta_ratio: s.gammaRatio }),
  orpo: (s) => ({ weight: s.orpoWeight }),
  dpop: (s) => ({ beta: s.beta, penalty: s.dpopPenalty }),
  dpo_norm: (s) => ({ beta: s.normBeta }),
};

export function options(state, method) {
  return OPTIONS[method](state);
}

const joined = (parts) => parts.join(' \\\n    ');

/** The commands of the method in focus, one after the other: RLHF fits a reward model first. */
export function command(state) {
  const sets = Object.entries(options(state, state.focus)).map(([key, value]) => `--set objective.${key}=${typeof value === 'number' ? number(value) : value}`);
  if (state.focus !== 'rlhf') return joined(['accord train --model smollm2 --data pairs.jsonl', `--method ${state.focus}`, ...sets, `--output runs/${state.focus}`]);
  return [
    joined(['accord train --model smollm2 --data pairs.jsonl', '--method bradley_terry', '--set model.lora=null', '--output runs/reward']),
    joined(['accord train --model smollm2 --data prompts.jsonl', '--method ppo', "--set 'rollouts.rewards=[runs/reward/final]'", ...sets, '--output runs/rlhf']),
  ].join('\n');
}
