// `npm run demo`: a real KV cache through every coder and rung, into a filesystem store and back by prefix hash. Needs nothing
// installed: what is missing is installed and built first.
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { readCapture } from './demo/capture.mjs';
import { combinations, measure, throughStore } from './demo/measure.mjs';
import { resultPage } from './demo/page.mjs';
import { cellsOf, terminalLine, TITLES } from './demo/table.mjs';
import { ROOT, setUp } from './setup.mjs';

const CAPTURE = join(ROOT, 'fixtures/captures/smollm2-gpl3-t0-256.safetensors');
const OUTPUT = join(ROOT, 'demo-output');

setUp();
const kvreel = await import(pathToFileURL(join(ROOT, 'dist/lib/index.js')));
const { filesystem } = await import(pathToFileURL(join(ROOT, 'dist/connectors/storage/filesystem.js')));

const capture = readCapture(CAPTURE);
const { tensor, tokenIds, metadata } = capture;
const { tokens, ...geometry } = tensor.layout;
const pairs = combinations(kvreel, tensor);
console.log(`${metadata.model}, ${metadata.text}: ${tokens} tokens, ${(tensor.data.length / 1e6).toFixed(1)} MB of ${geometry.dtype}, each coder at each rung that it has\n`);
console.log(terminalLine(TITLES));

const rows = [];
let hash;
for (const { coder, quality } of pairs) {
  const row = await measure(kvreel, tensor, { coder, quality });
  if (rows.some((other) => other.coder === coder && other.rung === row.rung)) continue; // near and lossy are other names of rungs
  // A directory a coder: in one store, an object takes the place of the one that another coder made of the same tensor.
  const connector = filesystem({ path: join(OUTPUT, 'store', coder) });
  const namespace = { model: metadata.model, geometry, quality };
  hash = await throughStore(kvreel, { connector, namespace, coder, tokenIds, tensor, decoded: row.decoded });
  await connector.close();
  rows.push(row);
  console.log(terminalLine(cellsOf(row)));
}

const machine = `${cpus()[0]?.model.trim() ?? process.arch}, Node ${process.version}`;
const page = join(OUTPUT, 'index.html');
mkdirSync(OUTPUT, { recursive: true });
writeFileSync(page, resultPage({ capture, rows, hash, machine }));
console.log(`\nEach of the ${rows.length} objects was stored, fetched back by prefix hash ${hash.slice(0, 16)}… and compared: all as expected.`);
console.log(`Pictures and rate curve: ${page}`);
