// The demo's page: one file without outside resources, readable in light and dark.
import { heatMap } from './picture.mjs';
import { rateCurve } from './curve.mjs';
import { valuesOf } from './measure.mjs';
import { cellsOf, TITLES } from './table.mjs';

/** `capture` as read, `rows` as measured, `hash` of the prefix, and the `machine` in words. */
export function resultPage({ capture, rows, hash, machine }) {
  const { layout, data } = capture.tensor;
  const layer = Math.floor(layout.layers / 2);
  const shown = shownRows(rows);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>kvreel demo</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>kvreel demo</h1>
<p class="lead">The KV cache of ${layout.tokens} tokens of ${escape(capture.metadata.model)} (${escape(capture.metadata.text)}): ${layout.layers} layers,
${layout.kvHeads} KV heads, head dim ${layout.headDim}, ${layout.dtype}, ${(data.length / 1e6).toFixed(1)} MB. Each object was stored in a
filesystem store and fetched back by prefix hash <code>${hash.slice(0, 16)}…</code>; what came back was compared byte by byte.</p>

<h2>Coders and rungs</h2>
<div class="scroll">${resultTable(rows)}</div>
<p class="note">MB are of the original tensor; the best of three runs in this process, without the check of its own output that
<code>encode</code> makes by default. Errors are in the units of the tensor. Whole chunk, all threads, ${escape(machine)}.</p>

<h2>Rate curve</h2>
${rateCurve(rows)}

<h2>Before and after</h2>
<p>K and V of layer ${layer}. Across: the ${layout.tokens} tokens; down: the ${layout.headDim} channels of each of the ${layout.kvHeads} heads.
<span class="swatch negative"></span> below zero, <span class="swatch positive"></span> above.</p>
${['K', 'V'].map((name, plane) => planeSection({ name, planeIndex: 2 * layer + plane, capture, shown })).join('\n')}
</main>
</body>
</html>
`;
}

function resultTable(rows) {
  const heads = TITLES.map((title) => `<th>${title}</th>`).join('');
  const lines = rows.map((row) => `<tr>${cellsOf(row).map((cell) => `<td>${cell}</td>`).join('')}</tr>`);
  return `<table><thead><tr>${heads}</tr></thead><tbody>${lines.join('\n')}</tbody></table>`;
}

// The finest, a middle and the coarsest lossy rung of the coder that has most of them; without lossy ones, the last result.
function shownRows(rows) {
  const lossy = rows.filter((row) => !row.identical);
  const most = lossy.filter((row) => row.coder === lossy[0].coder).sort((a, b) => b.bitsPerValue - a.bitsPerValue);
  return most.length < 3 ? rows.slice(-1) : [most[0], most[most.length >> 1], most[most.length - 1]];
}

function planeSection({ name, planeIndex, capture, shown }) {
  const { layout } = capture.tensor;
  const original = picturePlane(capture.tensor, planeIndex);
  const decoded = shown.map((row) => picturePlane(row.decoded, planeIndex));
  const differences = decoded.map((values) => values.map((value, i) => value - original[i]));
  const limit = magnitude(original);
  const differenceLimit = Math.max(...differences.map(magnitude));
  const picture = (values, limit, title) => `<img src="${heatMap({ values, width: layout.tokens, limit })}" width="${layout.tokens}" height="${layout.kvHeads * layout.headDim}" alt="${title}">`;
  const figures = shown.map(
    (row, i) => `<figure>
<figcaption><b>${row.coder} ${row.rung}</b> ${row.bitsPerValue.toFixed(2)} bits</figcaption>
${picture(decoded[i], limit, `${name} decoded from ${row.coder} ${row.rung}`)}
${picture(differences[i], differenceLimit, `what ${row.coder} ${row.rung} changed in ${name}`)}
</figure>`,
  );
  return `<h3>${name}</h3>
<div class="planes">
<figure>
<figcaption><b>original</b> 16 bits</figcaption>
${picture(original, limit, `${name} before encoding`)}
<p class="note">Upper row: full colour at ±${limit.toPrecision(2)}. Lower row, what decoding changed: full colour at ±${differenceLimit.toPrecision(2)}${
    differenceLimit > 0 ? `, ${(limit / differenceLimit).toFixed(0)} times as sensitive` : ''
  }.</p>
</figure>
${figures.join('\n')}
</div>`;
}

/** One plane with a row a channel and a column a token. */
function picturePlane(tensor, planeIndex) {
  const { kvHeads, tokens, headDim } = tensor.layout;
  const planeValues = kvHeads * tokens * headDim;
  const plane = valuesOf(tensor).subarray(planeIndex * planeValues, (planeIndex + 1) * planeValues);
  const turned = new Float32Array(planeValues);
  plane.forEach((value, i) => {
    const head = Math.floor(i / (tokens * headDim));
    const token = Math.floor(i / headDim) % tokens;
    turned[(head * headDim + (i % headDim)) * tokens + token] = value;
  });
  return turned;
}

/** The magnitude that all but the 1 % largest values stay below. */
function magnitude(values) {
  const sorted = values.map(Math.abs).sort();
  return sorted[Math.floor(0.99 * sorted.length)];
}

function escape(text) {
  return String(text).replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}

const STYLE = `
:root { color-scheme: light dark; --page: #fbfbfa; --card: #fff; --ink: #1c2024; --soft: #60676f; --rule: #e3e5e8;
  --raw: #6b7280; --exact: #15803d; --zstd: #7c3aed; --rans: #2563eb; --hevc: #d9480f; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171a; --card: #1b1f24; --ink: #e6e8ea; --soft: #9aa3ad; --rule: #30363d;
    --raw: #9ca3af; --exact: #4ade80; --zstd: #b794f6; --rans: #60a5fa; --hevc: #fb923c; }
}
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.55 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 28px; margin: 0 0 8px; }
h2 { font-size: 19px; margin: 40px 0 12px; }
h3 { font-size: 15px; margin: 24px 0 8px; }
.lead { max-width: 78ch; }
.note { color: var(--soft); font-size: 13px; max-width: 90ch; }
code { font: 13px ui-monospace, monospace; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--rule); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 14px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th { color: var(--soft); font-weight: 600; font-size: 13px; }
tbody tr:last-child td { border-bottom: 0; }
:is(th, td):nth-child(-n + 2) { text-align: left; }
main > svg { width: 100%; height: auto; background: var(--card); border: 1px solid var(--rule); border-radius: 8px; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
.ring { fill: none; stroke: currentColor; stroke-width: 2; }
.grid { stroke: var(--rule); }
.band { fill: var(--rule); opacity: .45; }
polyline { fill: none; stroke: currentColor; stroke-width: 2; }
circle:not(.ring), rect:not(.band) { fill: currentColor; stroke: var(--card); stroke-width: 1; }
.legend { display: flex; flex-wrap: wrap; gap: 20px; list-style: none; padding: 0; margin: 10px 0 0; font-size: 13px; }
.legend svg { width: 16px; height: 16px; vertical-align: -3px; margin-right: 6px; }
.raw { color: var(--raw); } .exact { color: var(--exact); } .zstd { color: var(--zstd); } .rans { color: var(--rans); } .hevc { color: var(--hevc); }
.planes { display: grid; grid-template-columns: repeat(auto-fit, 258px); gap: 16px; align-items: start; }
figure { margin: 0; }
figcaption { font-size: 13px; color: var(--soft); margin-bottom: 4px; }
figcaption b { color: var(--ink); }
figure img { display: block; background: var(--card); border: 1px solid var(--rule); margin-bottom: 8px; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-left: 6px; }
.negative { background: rgb(59, 130, 246); }
.positive { background: rgb(239, 68, 68); }
`;
