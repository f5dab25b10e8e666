// Fuzzes one target in a process of its own, so that a crash or a hang ends nothing else: child.ts TARGET SECONDS SEED PROGRESS_FILE.
// Before each input its number is written to the file: after a crash the parent knows which one it was.
import { openSync, writeSync } from 'node:fs';
import { corpusOf } from './inputs.js';
import { fuzz } from './loop.js';
import { TARGETS } from './targets.js';

const [name, seconds, seed, progressFile = ''] = process.argv.slice(-4);
const target = TARGETS.find((candidate) => candidate.name === name);
if (target === undefined) throw new Error(`no target is called ${name}`);

const progress = openSync(progressFile, 'w');
const counter = Buffer.alloc(8);
const end = performance.now() + 1000 * Number(seconds);
const report = await fuzz(target, {
  corpus: [...corpusOf(target).values()],
  seed: Number(seed),
  goesOn(iteration) {
    counter.writeDoubleLE(iteration);
    writeSync(progress, counter, 0, 8, 0);
    return performance.now() < end;
  },
});
const { iterations, outcomes, slowestMs, failure } = report;
process.send?.({ iterations, outcomes, slowestMs, ...(failure && { failedAt: failure.iteration, error: textOf(failure.error) }) });
process.disconnect?.();

function textOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
