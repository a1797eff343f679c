// The page of `accord watch`. All text of a run goes in as text (textContent), never as markup.
"use strict";

const FIGURES = [
  ["Loss", ["loss"]], ["Reward accuracy", ["rewards/accuracies"]], ["Reward margin", ["rewards/margins"]],
  ["Chosen, nats a token", ["diag/log_ratio_token/chosen"]], ["Rejected, nats a token", ["diag/log_ratio_token/rejected"]],
  ["Share of chosen that fell", ["diag/chosen_down"]], ["Entropy", ["entropy"]], ["Gradient norm", ["grad_norm"]],
  ["Learning rate", ["learning_rate"]], ["KTO's z0", ["kl"]],
  ["Reward of its own answers", ["rollouts/reward"]], ["KL of its own answers", ["rollouts/kl"]], ["Tokens an answer", ["rollouts/tokens"]],
  ["Answers without a reward", ["rollouts/missing"]], ["Prompts with one reward for all", ["rollouts/flat_groups"]],
];
const SAMPLED = [["KL on fresh samples", "diag/samples_kl"], ["Tokens of samples", "diag/samples_tokens"]];
// Which runs are shown stands in the address, so that a view can be kept and opened again.
const named = location.hash.slice(1).split(",").filter(Boolean).map(decodeURIComponent);
const state = { chosen: new Set(named), runs: [], data: new Map(), smoothing: 4, sampleStep: null };
const KEY = "Faint: each update (of a long run the least and the largest of each stretch). Solid: smoothed. Dashed with dots: held-out rows, or samples. Numbered lines: flags. ×: not a finite number.";
const WIDTH = 360, HEIGHT = 170, LEFT = 44, RIGHT = 8, TOP = 14, BOTTOM = 20;

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);  // a string becomes a text node
  return node;
}

function shape(name, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// The held-out name of a training figure: eval_loss, eval_rewards/…, diag/eval_…; of rollouts/reward, eval_reward.
const heldOut = (name) => (name.startsWith("diag/") ? "diag/eval_" + name.slice(5) : "eval_" + name.replace("rollouts/", ""));
// Two figures are called eval_kl: the KL of a policy's own answers, and KTO's z0. A run has one of them.
const isHeld = (run, name) => heldOut(name) !== "eval_kl" || (name === "rollouts/kl") === run.own;

function smooth(points, halfLife) {
  if (!halfLife) return points;
  const keep = Math.pow(0.5, 1 / halfLife);
  let total = 0, weight = 0;
  return points.map(([step, value]) => {
    total = keep * total + value; weight = keep * weight + 1;
    return [step, total / weight];
  });
}

// Round numbers between two values: steps of 1, 2 or 5 times a power of ten.
function ticks(low, high, about) {
  const raw = (high - low) / about, power = Math.pow(10, Math.floor(Math.log10(raw)));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw) || raw;
  const found = [];
  for (let k = Math.ceil(low / step); k <= high / step + 1e-9; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

const short = (value) => {
  if (value && Math.abs(value) < 1e-3) return Number(value.toPrecision(3)).toExponential();  // 0.00001 has no room, and would be cut to .00001
  return Math.abs(value) < 1e4 ? String(Number(value.toPrecision(3))) : Math.round(value).toLocaleString("en");
};

const finite = (points) => (points || []).filter(([, value]) => value !== null && Number.isFinite(value));

// lines: [{name, points, colour, style}], events: those of all chosen runs.
function chart(title, lines, events) {
  const broken = lines.flatMap((line) => (line.points || []).filter(([, value]) => value === null).map(([step]) => ({ step, line })));
  lines = lines.map((line) => ({ ...line, points: finite(line.points) })).filter((line) => line.points.length);
  const all = lines.flatMap((line) => line.points);
  if (!all.length) return null;
  const steps = all.map((p) => p[0]), values = all.map((p) => p[1]);
  const first = Math.min(...steps), last = Math.max(Math.max(...steps), first + 1);
  let low = Math.min(...values), high = Math.max(...values);
  const flat = high - low < 1e-9 * Math.max(Math.abs(high), Math.abs(low));  // rounding of a mean is no curve
  const room = (flat ? 0 : (high - low) * 0.06) || Math.abs(high) * 0.1 || 0.1;
  low -= room; high += room;
  const x = (step) => LEFT + ((step - first) / (last - first)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => TOP + ((high - value) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
  for (const value of ticks(low, high, 4)) {
    svg.append(shape("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }));
    svg.append(shape("text", { class: "tick", x: LEFT - 5, y: y(value) + 4, "text-anchor": "end" }, short(value)));
  }
  for (const step of ticks(first, last, 5).filter(Number.isInteger)) {
    const anchor = x(step) > WIDTH - RIGHT - 16 ? "end" : "middle";  // else the last number is cut
    svg.append(shape("text", { class: "tick", x: Math.min(x(step), WIDTH - 2), y: HEIGHT - 5, "text-anchor": anchor }, short(step)));
  }
  for (const event of events) {
    if (event.step < first || event.step > last) continue;
    const mark = shape("g", { class: event.verdict === "warning" ? "warning" : "note" });
    mark.append(shape("title", {}, `step ${event.step}: ${event.check} – ${event.says}`));
    mark.append(shape("line", { x1: x(event.step), x2: x(event.step), y1: TOP, y2: HEIGHT - BOTTOM }));
    mark.append(shape("text", { x: x(event.step), y: TOP - 3, "text-anchor": "middle" }, String(event.number)));
    svg.append(mark);
  }
  for (const line of lines) {
    const points = line.points.map(([s, v]) => `${x(s).toFixed(1)},${y(v).toFixed(1)}`).join(" ");
    const group = shape("g", { class: `k${line.colour % 6}` });
    group.append(shape("polyline", { class: line.style, points }));
    for (const [step, value] of line.style === "held" ? line.points : []) {
      const dot = shape("circle", { class: "dot", cx: x(step), cy: y(value), r: 2.6 });
      dot.append(shape("title", {}, `${line.name}: ${short(value)} at step ${step}`));
      group.append(dot);
    }
    svg.append(group);
  }
  for (const { step, line } of broken) {
    if (step < first || step > last) continue;
    const cross = shape("text", { class: "broken", x: x(step), y: TOP + 10, "text-anchor": "middle" }, "×");
    cross.append(shape("title", {}, `${line.name || title}: not a finite number at step ${step}`));
    svg.append(cross);
  }
  return element("div", { class: "chart" }, element("b", {}, title), svg);
}

function curves(runs) {
  const grid = element("div", { class: "grid" });
  const events = runs.length === 1 ? numbered(runs[0]) : [];
  for (const [title, [name]] of FIGURES) {
    const lines = runs.flatMap((run, colour) => {
      const points = run.curves.training[name] || [], trend = run.trends.training[name] || finite(points);
      if (name === "learning_rate") return [{ name: run.name, points, colour, style: "trend" }];  // no noise to smooth away
      // Without smoothing the extremes are the curve: a mean of many updates would hide one.
      const solid = state.smoothing ? smooth(trend, state.smoothing) : finite(points);
      return [
        { name: run.name, points, colour, style: "raw" }, { name: run.name, points: solid, colour, style: "trend" },
        { name: run.name, points: isHeld(run, name) ? run.curves.held_out[heldOut(name)] : [], colour, style: "held" },
      ];
    });
    grid.append(chart(title, lines, events) || "");
  }
  // A run's own answers have KL and tokens above, of many more prompts.
  const sampled = (name) => runs.flatMap((run, colour) => (run.own ? [] : [{ name: run.name, points: run.curves.samples[name], colour, style: "held" }]));
  for (const [title, name] of SAMPLED) grid.append(chart(title, sampled(name), events) || "");
  return grid;
}

const numbered = (run) => run.events.map((event, i) => ({ ...event, number: i + 1 }));

function flags(run) {
  const box = element("div");
  const isNote = (event) => Number(event.verdict === "note");
  for (const event of numbered(run).sort((a, b) => isNote(a) - isNote(b))) {  // warnings first
    const body = element("div", { class: `flag ${event.verdict === "warning" ? "warned" : "note"}` });
    body.append(element("p", {}, element("b", {}, `${event.number}  ${event.check.replace("flag.", "")}`), ` at step ${event.step}`), element("p", {}, event.says));
    if (event.means) body.append(element("p", {}, event.means));
    if (event.remedy) body.append(element("p", { class: "soft" }, `What to do: ${event.remedy}`));
    box.append(body);
  }
  if (!run.events.length) box.append(element("p", { class: "soft" }, "None so far."));
  return box;
}

function samples(run) {
  const steps = [...new Set(run.samples.map((line) => line.step))];
  if (!steps.length) return element("p", { class: "soft" }, "No samples.");
  const at = steps.includes(state.sampleStep) ? state.sampleStep : steps[steps.length - 1];
  const slider = element("input", { type: "range", min: 0, max: steps.length - 1, value: steps.indexOf(at), "aria-label": "step of the samples" });
  slider.addEventListener("input", () => { state.sampleStep = steps[slider.value]; draw(); });
  const box = element("div", {}, element("label", { class: "steps" }, `step ${at} beside step ${steps[0]} `, slider));
  const first = new Map(run.samples.filter((line) => line.step === steps[0]).map((line) => [line.prompt, line]));
  for (const line of run.samples.filter((line) => line.step === at)) {
    const columns = element("div", { class: "columns" }, answer(first.get(line.prompt)), at === steps[0] ? "" : answer(line));
    box.append(element("div", { class: "said" }, element("p", { class: "soft" }, line.asked), columns));
  }
  return box;
}

function answer(line) {
  return element("div", {}, element("small", { class: "soft" }, `step ${line.step}\n`), line.text || "(nothing)", line.ended ? "" : " …");
}

function config(runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.config)))];
  const table = element("table", {}, element("tr", {}, element("th", {}, "field"), ...runs.map((run, i) => element("th", { class: `k${i % 6}` }, run.name))));
  const rows = names.map((name) => [name, runs.map((run) => run.config[name] ?? "–")]);
  const shown = runs.length > 1 ? rows.filter(([, values]) => new Set(values).size > 1) : rows;
  for (const [name, values] of shown) table.append(element("tr", {}, element("td", {}, name), ...values.map((value) => element("td", {}, value))));
  const same = rows.length - shown.length;
  return element("div", {}, element("div", { class: "scroll" }, table), same ? element("p", { class: "soft" }, `${same} other fields are the same in all.`) : "");
}

function draw() {
  const main = document.getElementById("main");
  const runs = [...state.chosen].map((name) => state.data.get(name)).filter(Boolean);
  if (!runs.length) { main.replaceChildren(element("p", { class: "soft" }, state.runs.length ? "Choose a run." : "No runs here yet.")); return; }
  const parts = [element("h1", {}, ...runs.flatMap((run, i) => [i ? " · " : "", element("span", { class: `k${i % 6}` }, run.name)]))];
  for (const run of runs) parts.push(element("h2", {}, runs.length > 1 ? `Flags of ${run.name}` : "Flags"), flags(run));
  parts.push(element("h2", {}, "Curves"), element("p", { class: "soft" }, KEY), curves(runs));
  for (const run of runs) parts.push(element("h2", {}, runs.length > 1 ? `Samples of ${run.name}` : "Samples"), samples(run));
  parts.push(element("h2", {}, runs.length > 1 ? "What is not the same" : "Configuration"), config(runs));
  main.replaceChildren(...parts);
}

function list() {
  const box = document.getElementById("runs");
  box.replaceChildren(...state.runs.map((run) => {
    const tick = element("input", { type: "checkbox", "aria-label": run.name });
    tick.checked = state.chosen.has(run.name);
    tick.addEventListener("change", () => {
      tick.checked ? state.chosen.add(run.name) : state.chosen.delete(run.name);
      history.replaceState(null, "", "#" + [...state.chosen].map(encodeURIComponent).join(","));
      refresh();
    });
    const text = element("span", {}, run.name + " ", element("small", {}, [run.says || `${run.objective} · step ${run.step}`, run.state === "running" ? "" : run.state].filter(Boolean).join(", ")));
    if (run.state === "running") text.prepend(element("i", { class: "runs", title: "a process trains here" }));
    if (run.state === "stopped") text.append(element("small", { title: "no process trains here: it was killed, or ended before its last update" }, " (accord resume goes on)"));
    if (run.flags) text.append(element("b", { class: "bad" }, ` ${run.flags} red ${run.flags === 1 ? "flag" : "flags"}`));
    return element("label", { class: "run" }, tick, text);
  }));
}

async function get(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(answer.status);
  return answer.json();
}

async function refresh() {
  const live = document.getElementById("live");
  try {
    const before = JSON.stringify([state.runs, [...state.chosen]]);
    state.runs = await get("/api/runs");
    const there = new Set(state.runs.map((run) => run.name));
    for (const name of state.chosen) if (!there.has(name)) state.chosen.delete(name);
    if (!state.chosen.size && state.runs.length && !state.runs[0].says) state.chosen.add(state.runs[0].name);
    for (const name of state.chosen) state.data.set(name, await get("/api/run?name=" + encodeURIComponent(name)));
    live.classList.remove("lost");
    if (before !== JSON.stringify([state.runs, [...state.chosen]]) || !document.querySelector(".chart")) { list(); draw(); }
  } catch { live.classList.add("lost"); }
}

document.getElementById("smoothing").addEventListener("input", (event) => { state.smoothing = Number(event.target.value); draw(); });
refresh();
setInterval(refresh, 2000);
