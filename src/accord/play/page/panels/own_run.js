// Your own run: drop its files here. They are read in this page and go nowhere.

import { html, svg } from '../dom.js';
import { Plot } from '../plot.js';
import { readRun } from '../run_file.js';
import { short, signed } from '../words.js';

export const ownRun = {
  id: 'own-run',
  title: 'Your own run, on the same plots',
  says: 'Drop a run’s metrics.jsonl, samples.jsonl or pairs.json here. The files stay in this browser. Its path appears on the plots above, in its own colour.',
  build(store, shared) {
    const said = html('p', { class: 'note', role: 'status' });
    const shown = html('div', { class: 'run' });
    const open = async (files) => { for (const file of files) await take(file, shared, said, shown); };
    const picker = html('input', { type: 'file', multiple: true, accept: '.jsonl,.json', 'aria-label': 'files of a run', on: { change: () => open(picker.files) } });
    const zone = html('label', { class: 'drop' }, html('strong', {}, 'Drop files here'), ' or choose them ', picker);
    catchDrops(zone, open);
    return { element: html('div', {}, zone, said, shown), draw() {} };
  },
};

function catchDrops(zone, open) {
  for (const target of [document, zone]) {
    target.addEventListener('dragover', (event) => { event.preventDefault(); zone.classList.add('over'); });
    target.addEventListener('dragleave', () => zone.classList.remove('over'));
  }
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    zone.classList.remove('over');
    open(event.dataTransfer.files);
  });
}

async function take(file, shared, said, shown) {
  try {
    const run = readRun(file.name, await file.text());
    said.textContent = `${file.name}: read.${run.kind === 'metrics' ? missing(run) : ''}`;
    if (run.kind === 'metrics') shared.setRun(run);
    shown.querySelector(`.${run.kind}`)?.remove();
    shown.append(html('div', { class: run.kind }, ...SHOWN[run.kind](run)));
  } catch (error) {
    said.textContent = error.message;
  }
}

/** What the plots above cannot show of a run, and why. */
function missing({ margins, perToken }) {
  const lacks = [...(margins.length ? [] : ['its h']), ...(perToken ? [] : ['how its answers moved'])];
  return lacks.length ? ` It recorded no log-ratios to a reference, so ${lacks.join(' and ')} cannot be drawn above.` : '';
}

const SHOWN = { metrics: curves, samples, pairs };

function curves({ curves: all, last }) {
  const groups = [['loss', 'loss', 'eval_loss'], ['reward margin, βh', 'rewards/margins', 'eval_rewards/margins'], ['accuracy', 'rewards/accuracies', 'eval_rewards/accuracies']];
  const charts = groups.filter(([, ...names]) => names.some((name) => all[name])).map(([title, train, held]) => {
    const values = [...(all[train] ?? []), ...(all[held] ?? [])].map(([, value]) => value);
    const plot = new Plot(300, 170, { x: [0, last * 1.02], y: [Math.min(...values), Math.max(...values)], xLabel: 'step', yLabel: title, top: 20 });
    plot.line(all[train] ?? [], 'faint m-run').line(all[held] ?? [], 'strong m-run');
    const element = svg('svg', { role: 'img' });
    plot.into(element, `${title} of the run, ${short(values[0])} to ${short(values.at(-1))}`);
    return element;
  });
  return [html('p', { class: 'note' }, 'Faint: training batches. Strong: held-out rows. In the plane above, its accuracy (½ at the foot, 1 at the top) against the KL of its samples.'), html('div', { class: 'charts' }, ...charts)];
}

function samples({ prompts }) {
  return prompts.map(({ asked, answers }) => {
    const [first, last] = [answers[0], answers.at(-1)];
    return html('details', {}, html('summary', {}, asked || 'a prompt'), ...[first, ...(last === first ? [] : [last])].map(({ step, text, tokens }) =>
      html('p', { class: 'said' }, html('small', {}, `step ${step}${tokens === null ? '' : `, ${tokens} tokens`} `), text)));
  });
}

/** Token heat: log π - log π_ref of every token, as in the report. */
function pairs({ pairs: list }) {
  const legend = html('p', { class: 'note' }, 'Colour: log π − log π_ref of each token, ', html('span', { class: 'heat up3' }, 'more likely'), ' or ', html('span', { class: 'heat down3' }, 'less likely'), ' than before training.');
  return [legend, ...list.map((pair) => html('details', { open: list.indexOf(pair) === 0 },
    html('summary', {}, `${pair.kind}, margin ${signed(pair.gain)}: ${pair.asked.slice(0, 90)}`),
    ...['chosen', 'rejected'].map((side) => html('p', { class: 'said' }, html('small', {}, `${side} `), ...pair[side].map(token)))))];
}

function token({ text, change }) {
  const level = change === null ? 0 : Math.min(4, Math.ceil(Math.abs(change) / 0.5));
  const known = change === null ? '' : `${signed(change)} nats`;
  return html('span', { class: level ? `heat ${change > 0 ? 'up' : 'down'}${level}` : 'heat', title: known }, text);
}
