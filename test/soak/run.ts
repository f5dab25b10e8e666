// npm run soak [-- --minutes N --store URL ... --max-mib N --json FILE]: keeps stores busy for that long, all at once, and ends with 1 if
// memory or descriptors grew, a bound was passed or a byte was wrong. Without --store it starts servers of its own.
import { readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { table } from '../../connectors/engine/cli/table.js';
import { soak, type SoakSample } from './soak.js';
import { ownStores, storesAt } from './stores.js';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '20' },
    store: { type: 'string', multiple: true },
    'max-mib': { type: 'string', default: '32' },
    seed: { type: 'string', default: '1' },
    json: { type: 'string' },
  },
});

const MIB = 2 ** 20;
const maxBytes = Number(values['max-mib']) * MIB;
const opened = values.store === undefined ? await ownStores(maxBytes) : await storesAt(values.store, maxBytes);
const before = readdirSync('/proc/self/fd').length;
try {
  const report = await soak(opened.stores, { minutes: Number(values.minutes), maxBytes, seed: Number(values.seed), onSample: note });
  await opened.close();
  await new Promise(setImmediate);
  const after = readdirSync('/proc/self/fd').length;
  const breaches = [...report.breaches, ...(after > before ? [`${after - before} descriptors were left open after close()`] : [])];

  const last = report.samples.at(-1)?.stores ?? [];
  const most = (name: string): number => Math.max(...report.samples.flatMap(({ stores }) => stores.filter((store) => store.name === name).map(({ storedBytes }) => storedBytes)));
  const cells = last.map(({ name, gets, hits, puts, evictions }) => [name, String(gets), String(hits), String(puts), String(evictions), (most(name) / MIB).toFixed(2), (maxBytes / MIB).toFixed(2)]);
  console.log(table(['STORE', 'GETS', 'HITS', 'PUTS', 'EVICTIONS', 'MOST MIB', 'BOUND MIB'], cells));
  const [first] = report.samples.filter(({ minute }) => minute >= report.warmUpMinutes);
  console.log(`memory after ${report.warmUpMinutes} minutes: ${((first?.rssBytes ?? 0) / MIB).toFixed(0)} MiB, then ${(100 * report.rssGrowth).toFixed(1)} % more`);
  console.log(breaches.length === 0 ? 'passed' : `FAILED:\n${breaches.join('\n')}`);
  const machine = { cpu: cpus()[0]?.model, cores: cpus().length, node: process.version };
  if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify({ date: new Date().toISOString(), machine, ...report, breaches }, undefined, 1)}\n`);
  process.exitCode = breaches.length === 0 ? 0 : 1;
} finally {
  await opened.stop();
}

function note({ minute, rssBytes, descriptors, stores }: SoakSample): void {
  const each = stores.map(({ name, gets, puts, storedBytes }) => `${name} ${gets}/${puts} ${(storedBytes / MIB).toFixed(1)}`);
  process.stderr.write(`minute ${minute.toFixed(1)}: ${(rssBytes / MIB).toFixed(0)} MiB, ${descriptors} descriptors; gets/puts, MiB held: ${each.join(', ')}\n`);
}
