// Names and numbers as people read them. A method has one name and one colour everywhere (style.css: .m-…).

export const NAMES = { ref: 'start', star: 'π*', rlhf: 'RLHF', dpo: 'DPO', ipo: 'IPO', kto: 'KTO', simpo: 'SimPO', orpo: 'ORPO', dpop: 'DPOP', dpo_norm: 'DPO-norm' };

export function letter(i) {
  return 'ABCDEFGH'[i];
}

/** A probability as a percentage: 64, 0.3, 0. */
export function percent(p) {
  const x = 100 * p;
  if (x >= 99.5 && x < 99.95) return x.toFixed(1);
  if (x >= 1 || x < 0.05) return String(Math.round(x));
  return x.toFixed(1);
}

/** Three significant digits, a true minus sign, no trailing zeros. */
export function short(x) {
  if (!Number.isFinite(x)) return x > 0 ? '∞' : x < 0 ? '−∞' : '–';
  const size = Math.abs(x);
  if (size >= 10000 || (size > 0 && size < 0.001)) return x.toExponential(0).replace('e+', 'e').replace('-', '−');
  return String(Number(x.toPrecision(3))).replace('-', '−');
}

export function signed(x) {
  return (x > 0 ? '+' : '') + short(x);
}

/** Words on at most `lines` lines of about `room` characters; what does not fit ends in an ellipsis. */
export function wrapped(text, room, lines = 2) {
  const out = [''];
  for (const word of text.split(/\s+/)) {
    const last = out.at(-1);
    if (!last || last.length + 1 + word.length <= room) out[out.length - 1] = last ? `${last} ${word}` : word;
    else out.push(word);
  }
  const kept = out.slice(0, lines).map((line) => (line.length > room ? `${line.slice(0, room - 1)}…` : line));
  if (out.length > lines) kept[lines - 1] = `${kept[lines - 1].replace(/…$/, '').slice(0, room - 1).trimEnd()}…`;
  return kept;
}
