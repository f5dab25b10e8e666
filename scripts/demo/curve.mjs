// The rate curve as SVG: bits per value against relative RMS error. Coders that restore every bit stand in a band of their own,
// as a logarithmic axis has no zero.
const WIDTH = 860;
const HEIGHT = 400;
const PLOT = { left: 74, right: WIDTH - 24, top: 20, bottom: HEIGHT - 116 };
const BAND = HEIGHT - 80;
// rans and hevc carry the same integers and nearly coincide: a dot with a ring around it.
const MARKS = { raw: 'circle', exact: 'square', zstd: 'diamond', rans: 'circle', hevc: 'ring' };

/** `rows` as measure.mjs makes them. */
export function rateCurve(rows) {
  const lossy = rows.filter((row) => !row.identical);
  const x = linear(0, 2 * Math.round(Math.max(...rows.map((row) => row.bitsPerValue)) / 2), PLOT.left, PLOT.right);
  const y = logarithmic(lossy.map((row) => row.relativeRms));
  const coders = [...new Set(rows.map((row) => row.coder))];
  const placed = rows.map((row) => ({ ...row, x: x.at(row.bitsPerValue), y: row.identical ? BAND : y.at(row.relativeRms) }));
  const parts = [
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="Error of each coder and rung against its bits per value">`,
    `<rect class="band" x="${PLOT.left}" y="${BAND - 20}" width="${PLOT.right - PLOT.left}" height="40" rx="4"/>`,
    label({ x: PLOT.left - 10, y: BAND + 4, text: 'identical', anchor: 'end' }),
    ...x.ticks.map((tick) => line('grid', [x.at(tick), PLOT.top, x.at(tick), BAND + 20]) + label({ x: x.at(tick), y: BAND + 38, text: tick, anchor: 'middle' })),
    ...y.ticks.map((tick) => line('grid', [PLOT.left, y.at(tick), PLOT.right, y.at(tick)]) + label({ x: PLOT.left - 10, y: y.at(tick) + 4, text: percent(tick), anchor: 'end' })),
    label({ x: (PLOT.left + PLOT.right) / 2, y: HEIGHT - 14, text: 'bits per value (bf16 has 16)', anchor: 'middle' }),
    `<text transform="translate(16 ${(PLOT.top + PLOT.bottom) / 2}) rotate(-90)" text-anchor="middle">relative RMS error</text>`,
    ...coders.map((coder) => series(coder, placed.filter((row) => row.coder === coder))),
    ...rungLabels(placed),
    '</svg>',
  ];
  const legend = coders.map((coder) => `<li><svg viewBox="-8 -8 16 16" class="${coder}">${mark(coder, 0, 0)}</svg>${coder}</li>`);
  return `${parts.join('\n')}\n<ul class="legend">${legend.join('')}</ul>`;
}

function series(coder, rows) {
  const path = rows.filter((row) => !row.identical).sort((a, b) => a.x - b.x);
  const points = path.map((row) => `${row.x.toFixed(1)},${row.y.toFixed(1)}`).join(' ');
  const marks = rows.map((row) => `<g>${mark(coder, row.x, row.y)}<title>${coder} ${row.rung}: ${row.bitsPerValue.toFixed(2)} bits, error ${percent(row.relativeRms)}</title></g>`);
  return `<g class="${coder}"><polyline points="${points}"/>${marks.join('')}</g>`;
}

// Coders that carry the same integers have nearly the same points: each rung is named once.
function rungLabels(rows) {
  const seen = new Set();
  return rows.filter((row) => !row.identical && !seen.has(row.rung) && seen.add(row.rung)).map((row) => label({ x: row.x + 14, y: row.y - 10, text: row.rung, anchor: 'start' }));
}

function mark(coder, x, y) {
  const kind = MARKS[coder] ?? 'square';
  if (kind === 'circle') return `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="5"/>`;
  if (kind === 'ring') return `<circle class="ring" cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="7"/>`;
  const turn = kind === 'diamond' ? ` transform="rotate(45 ${x.toFixed(1)} ${y.toFixed(1)})"` : '';
  return `<rect x="${(x - 4.5).toFixed(1)}" y="${(y - 4.5).toFixed(1)}" width="9" height="9"${turn}/>`;
}

function line(name, [x1, y1, x2, y2]) {
  return `<line class="${name}" x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}"/>`;
}

function label({ x, y, text, anchor }) {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${text}</text>`;
}

function linear(low, high, from, to) {
  const ticks = Array.from({ length: high / 2 + 1 }, (_, i) => low + 2 * i);
  return { ticks, at: (value) => from + ((value - low) / (high - low)) * (to - from) };
}

function logarithmic(values) {
  if (values.length === 0) return { ticks: [], at: () => PLOT.bottom };
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.ceil(Math.log10(Math.max(...values)));
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i));
  return { ticks, at: (value) => PLOT.bottom - ((Math.log10(value) - low) / (high - low)) * (PLOT.bottom - PLOT.top) };
}

function percent(ratio) {
  return `${Number((100 * ratio).toPrecision(2))} %`;
}
