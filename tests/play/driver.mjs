// Runs the page's own modules for the tests: a JSON list of jobs on standard input, the list of answers on standard output.
// A job is [name, arguments].

import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const page = (file) => import(new URL(file, pathToFileURL(`${process.argv[2]}/`)));
const [objectives, policy, preferences, rewards, training, stateModule, derived, presets, commands, runs, numbers] = await Promise.all(
  ['math/objectives.js', 'math/policy.js', 'math/preferences.js', 'math/reward_model.js', 'math/train.js', 'state.js', 'derive.js', 'presets.js', 'command.js', 'run_file.js', 'math/numbers.js'].map(page),
);

const JOBS = {
  /** Loss and slopes of rows [policyW, refW, countW, policyL, refL, countL]. */
  pairs: (name, rows, options) => rows.map(([pw, rw, nw, pl, rl, nl]) => objectives[name]({ policy: pw, reference: rw, count: nw }, { policy: pl, reference: rl, count: nl }, options)),
  kto: (rows, desirable, options) => rows.map(([p, r, n], k) => objectives.kto({ policy: p, reference: r, count: n }, desirable[k], options)),
  logOdds: (values) => values.map(numbers.logOdds),
  /** A world at parameters θ: its policy, π*, KL, expected reward, and every method's gradient. */
  world: ({ answers, shares, theta, rows, rewards: given, settings }) => {
    const logRef = policy.logReference(answers);
    const phi = policy.design(answers, shares);
    const logp = policy.logPolicy(logRef, phi, theta);
    const problem = { logRef, phi, counts: answers.map((one) => one.tokens), rows, rewards: given };
    const gradients = Object.fromEntries(training.METHODS.map((method) => [method, training.toParameters(training.SLOPES[method](problem, settings)(logp, 0), logp, phi)]));
    const star = policy.optimum(logRef, given, settings.beta);
    return { logp, star, kl: policy.divergence(logp, logRef), reward: policy.expectation(logp, given), gradients };
  },
  /** Log-probs where training ends. */
  train: (method, problem, settings) => training.train(method, problem, settings).at(-1),
  fit: (phi, rows) => rewards.fitRewards(phi, rows),
  comparisons: (answers, settings) => preferences.comparisons(answers, settings),
  frontier: (logRef, values) => policy.frontier(logRef, values),
  sound: (candidate) => stateModule.sound(candidate),
  decode: (text) => stateModule.decode(text),
  roundTrip: (candidate) => stateModule.decode(stateModule.encode(stateModule.sound(candidate))),
  undo: (patches) => {
    const store = new stateModule.Store(stateModule.DEFAULT);
    for (const [patch, commit] of patches) commit ? store.commit(patch) : store.set(patch);
    const seen = [store.state.beta];
    while (store.past.length) { store.undo(); seen.push(store.state.beta); }
    return seen;
  },
  presets: () => Object.keys(presets.PRESETS),
  /** Every method's way of a preset: [probabilities, true reward, reward as the model sees it, KL, tokens] at each step. */
  preset: (name, change) => {
    const state = stateModule.sound({ ...presets.presetState(name), ...change });
    const found = derived.derive(state);
    const way = (method) => found.paths[method].map((logp, t) => ({ ...found.ways[method][t], p: logp.map(Math.exp), margin: derived.pairMargin(logp, found.logRef, state.pair), accuracy: derived.accuracy(logp, found) }));
    return { state, star: found.star.map(Math.exp), ways: Object.fromEntries(state.methods.map((method) => [method, way(method)])) };
  },
  command: (change) => { const state = stateModule.sound({ ...stateModule.DEFAULT, ...change }); return { command: commands.command(state), options: commands.options(state, state.focus) }; },
  run: (name, text) => { try { return runs.readRun(name, text); } catch (error) { return { refused: error.message }; } },
};

const jobs = JSON.parse(readFileSync(0, 'utf8'));
process.stdout.write(JSON.stringify(jobs.map(([name, args]) => JOBS[name](...args))));
