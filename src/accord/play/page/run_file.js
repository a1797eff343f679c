// A run's own files, read in the browser and nowhere else: metrics.jsonl, samples.jsonl, pairs.json.
//
// Everything in them is a stranger's: numbers are checked, texts are only ever set as text.

const MOST_LINES = 200_000;
const LOG_RATIOS = ['log_ratio/chosen', 'log_ratio/rejected', 'log_ratio_token/chosen', 'log_ratio_token/rejected'];

/** What a file holds: { kind: 'metrics' | 'samples' | 'pairs', … }. Throws an Error in words for any other file. */
export function readRun(name, text) {
  const whole = parsed(text);
  if (whole && (Array.isArray(whole.improved) || Array.isArray(whole.harmed))) return readPairs(whole);
  const rows = lines(name, text);
  if (rows.some((row) => typeof row.text === 'string' && 'prompt' in row)) return readSamples(rows);
  if (rows.some((row) => number(row.loss) || number(row['eval_loss']) || number(row['rewards/margins']) || number(row['logps/chosen']))) return readMetrics(rows);
  throw new Error(`${name}: expected a run's metrics.jsonl, samples.jsonl or pairs.json (the folder that accord train wrote).`);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return withoutNaN(text);
  }
}

/** Python writes NaN and Infinity, which JSON does not know: they are no numbers here. */
function withoutNaN(text) {
  try {
    return JSON.parse(text.replace(/:\s*(NaN|-?Infinity)(?=\s*[,}])/g, ':null'));
  } catch {
    return null;
  }
}

function lines(name, text) {
  const split = text.split('\n').filter((line) => line.trim());
  if (split.length > MOST_LINES) throw new Error(`${name}: ${split.length.toLocaleString('en')} lines; at most ${MOST_LINES.toLocaleString('en')} are read here.`);
  return split.map((line, k) => {
    const row = parsed(line);
    if (row && typeof row === 'object' && !Array.isArray(row)) return row;
    // The last line of a run that is being written may be half there.
    if (k === split.length - 1) return {};
    throw new Error(`${name}, line ${k + 1}: not a JSON object.`);
  });
}

const number = (value) => typeof value === 'number' && Number.isFinite(value);

/** [[step, value]] of one name; steps ascending as written. */
function series(rows, name) {
  return rows.filter((row) => number(row.step) && number(row[name])).map((row) => [row.step, row[name]]);
}

function readMetrics(rows) {
  const names = ['loss', 'eval_loss', 'rewards/margins', 'eval_rewards/margins', 'rewards/accuracies', 'eval_rewards/accuracies', 'logps/chosen', 'logps/rejected', 'eval_logps/chosen', 'eval_logps/rejected', 'diag/samples_kl', ...LOG_RATIOS.flatMap((name) => [`diag/${name}`, `diag/eval_${name}`])];
  const curves = Object.fromEntries(names.map((name) => [name, series(rows, name)]).filter(([, points]) => points.length));
  const last = Math.max(1, ...rows.map((row) => (number(row.step) ? row.step : 0)));
  const share = (points) => points.map(([step, value]) => [step / last, value]);
  const held = (name) => share((curves[`diag/eval_${name}`]?.length > 1 ? curves[`diag/eval_${name}`] : curves[`diag/${name}`]) ?? []);
  const chosen = held('log_ratio_token/chosen');
  const rejected = held('log_ratio_token/rejected');
  return { kind: 'metrics', curves, last, margins: between(held('log_ratio/chosen'), held('log_ratio/rejected')), plane: plane(curves), perToken: chosen.length && rejected.length ? { chosen, rejected } : null };
}

/** h of a run: log-ratio of chosen less that of rejected, in nats, at the steps that have both. Its reward margin is β·h. */
function between(chosen, rejected) {
  const at = new Map(rejected);
  return chosen.filter(([share]) => at.has(share)).map(([share, value]) => [share, value - at.get(share)]);
}

/** [KL of samples, held-out accuracy] of each step that has both; the nearest evaluation where steps differ. */
function plane(curves) {
  const accuracy = curves['eval_rewards/accuracies'] ?? [];
  return (curves['diag/samples_kl'] ?? []).flatMap(([step, kl]) => {
    const near = [...accuracy].sort((a, b) => Math.abs(a[0] - step) - Math.abs(b[0] - step))[0];
    return near ? [[kl, near[1]]] : [];
  });
}

function readSamples(rows) {
  const byPrompt = new Map();
  for (const row of rows) {
    if (typeof row.text !== 'string') continue;
    const key = String(row.prompt);
    if (!byPrompt.has(key)) byPrompt.set(key, { asked: String(row.asked ?? ''), answers: [] });
    byPrompt.get(key).answers.push({ step: number(row.step) ? row.step : 0, text: row.text, tokens: number(row.tokens) ? row.tokens : null });
  }
  return { kind: 'samples', prompts: [...byPrompt.values()].slice(0, 40) };
}

function readPairs(whole) {
  const tokens = (list) => (Array.isArray(list) ? list : []).slice(0, 2000).map((token) => ({ text: String(token?.text ?? ''), change: number(token?.change) ? token.change : null }));
  const pair = (kind) => (one) => ({ kind, at: String(one?.at ?? ''), gain: number(one?.gain) ? one.gain : 0, asked: String(one?.prompt?.at?.(-1)?.content ?? ''), chosen: tokens(one?.chosen), rejected: tokens(one?.rejected) });
  const list = (name) => (Array.isArray(whole[name]) ? whole[name].slice(0, 20).map(pair(name)) : []);
  return { kind: 'pairs', pairs: [...list('improved'), ...list('harmed')] };
}
