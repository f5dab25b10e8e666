// npm run bench [-- part ... capture.safetensors ... --rounds N --json FILE]: prints each part's tables, ratios to peers included.
import { readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { table } from '../../connectors/engine/cli/table.js';
import type { BenchContext, BenchResult } from './bench.js';
import { codecBench } from './codec.bench.js';
import { connectorsBench } from './connectors.bench.js';
import { filesystemBench } from './filesystem.bench.js';
import { hevcBench } from './hevc.bench.js';
import { memoryBench } from './memory.bench.js';
import { qualityBench } from './quality.bench.js';
import { shimBench } from './shim.bench.js';

const FIXTURES = join(import.meta.dirname, '../../fixtures/captures');

const PARTS: Readonly<Record<string, (context: BenchContext) => Promise<BenchResult>>> = {
  codec: codecBench,
  hevc: hevcBench,
  filesystem: filesystemPart,
  connectors: connectorsBench,
  memory: memoryBench,
  quality: qualityBench,
  shim: shimBench,
};

const { values, positionals } = parseArgs({ allowPositionals: true, options: { json: { type: 'string' }, rounds: { type: 'string', default: '9' } } });
const given = positionals.filter((name) => name.endsWith('.safetensors'));
const wanted = positionals.filter((name) => !name.endsWith('.safetensors'));
const unknown = wanted.find((name) => !(name in PARTS));
if (unknown !== undefined) throw new Error(`expected a part (${Object.keys(PARTS).join(', ')}) or a .safetensors file, got ${unknown}`);

const context: BenchContext = {
  captures: given.length > 0 ? given : fixtureCaptures(),
  rounds: Number(values.rounds),
  note: (text) => process.stderr.write(`${text}\n`),
};
const machine = { cpu: cpus()[0]?.model, cores: cpus().length, node: process.version };
const parts: Record<string, readonly object[]> = {};
for (const name of wanted.length > 0 ? wanted : Object.keys(PARTS)) {
  const { rows, text } = (await PARTS[name]?.(context)) ?? { rows: [], text: '' };
  parts[name] = rows;
  console.log(`\n== ${name}\n${text}`);
}
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify({ date: new Date().toISOString(), machine, captures: context.captures.map((path) => basename(path)), parts }, undefined, 1)}\n`);

function fixtureCaptures(): string[] {
  return readdirSync(FIXTURES).filter((name) => name.endsWith('.safetensors')).map((name) => join(FIXTURES, name));
}

async function filesystemPart(): Promise<BenchResult> {
  const rows = await filesystemBench();
  const cells = rows.map((row) => [row.name, row.MBps.toFixed(0), row.median.toFixed(2), row.p99.toFixed(2), row.cpuSecondsPerGiB.toFixed(2), row.ratio.toFixed(2)]);
  return { rows, text: table(['WHAT', 'MB/S', 'MEDIAN MS', 'P99 MS', 'CPU S/GIB', 'RATIO'], cells) };
}
