// npm run fuzz -- [--target NAME] [--seconds 60] [--seed N] [--jobs 2]
// npm run fuzz -- --target NAME --replay FILE
//
// Each target for so long, every input a seeded change of one in corpus/. An input that fails is written to .cache/fuzz/, shrunk by nobody:
// mend the parser, then move the file to corpus/<target>/, where `npm test` meets it for ever.
import { fork } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { corpusOf, inputOf } from './inputs.js';
import type { FuzzTarget } from './target.js';
import { TARGETS } from './targets.js';

const ROOT = join(import.meta.dirname, '../..');
const OUT = join(ROOT, '.cache/fuzz');
/** Without a word for so long, a child hangs. */
const HANG_MS = 30_000;
/** A parser that asks for more memory than this has asked for too much. */
const HEAP_MIB = 512;

interface ChildReport {
  readonly iterations: number;
  readonly outcomes: Readonly<Record<string, number>>;
  readonly slowestMs: number;
  readonly failedAt?: number;
  readonly error?: string;
}

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: {
    target: { type: 'string' },
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(Date.now() % 1e9) },
    jobs: { type: 'string', default: '2' },
    replay: { type: 'string' },
  },
});

const targets = TARGETS.filter(({ name }) => values.target === undefined || name === values.target);
if (targets.length === 0) throw new Error(`expected --target to be one of ${TARGETS.map(({ name }) => name).join(', ')}`);
if (values.replay !== undefined) await replay(values.replay);
else process.exitCode = (await runAll()) ? 0 : 1;

async function replay(file: string): Promise<void> {
  const [target, ...others] = targets;
  if (target === undefined || others.length > 0) throw new Error('expected --target with --replay');
  console.log(`${target.name}: ${await target.meet(new Uint8Array(readFileSync(file)))}`);
}

async function runAll(): Promise<boolean> {
  mkdirSync(OUT, { recursive: true });
  console.log(`seed ${values.seed}, ${values.seconds} s each`);
  const waiting = [...targets];
  const results: boolean[] = [];
  const lane = async (): Promise<void> => {
    for (let target = waiting.shift(); target !== undefined; target = waiting.shift()) results.push(await runOne(target));
  };
  await Promise.all(Array.from({ length: Number(values.jobs) }, lane));
  console.log(`${results.filter(Boolean).length} passed, ${results.filter((isGood) => !isGood).length} failed`);
  return results.every(Boolean);
}

async function runOne(target: FuzzTarget): Promise<boolean> {
  const progressFile = join(OUT, `${target.name}.progress`);
  const { report, end } = await childOf(target, progressFile);
  if (report !== undefined && report.failedAt === undefined) {
    const perSecond = Math.round(report.iterations / Number(values.seconds));
    console.log(`${target.name}: ${report.iterations} inputs (${perSecond}/s, slowest ${report.slowestMs.toFixed(0)} ms): ${JSON.stringify(report.outcomes)}`);
    return true;
  }
  const iteration = report?.failedAt ?? readFileSync(progressFile).readDoubleLE();
  const file = join(OUT, `${target.name}-${values.seed}-${iteration}.bin`);
  writeFileSync(file, inputOf(target, [...corpusOf(target).values()], Number(values.seed), iteration));
  console.log(`${target.name}: FAILED at input ${iteration}: ${report?.error ?? end}\n  replay it: npm run fuzz -- --target ${target.name} --replay ${file}`);
  return false;
}

/** What a child reported, or how it ended without a report. */
function childOf(target: FuzzTarget, progressFile: string): Promise<{ report: ChildReport | undefined; end: string }> {
  const args = [join(import.meta.dirname, 'child.ts'), '--', target.name, values.seconds, values.seed, progressFile];
  const child = fork(join(ROOT, 'node_modules/vite-node/vite-node.mjs'), args, { cwd: ROOT, execArgv: [`--max-old-space-size=${HEAP_MIB}`] });
  return new Promise((resolve) => {
    let report: ChildReport | undefined;
    let isHung = false;
    const watchdog = setTimeout(() => {
      isHung = true;
      child.kill('SIGKILL');
    }, 1000 * Number(values.seconds) + HANG_MS);
    child.on('message', (message) => (report = message as ChildReport));
    child.on('exit', (code, signal) => {
      clearTimeout(watchdog);
      resolve({ report, end: isHung ? 'it hung' : `it ended with ${signal ?? code}` });
    });
  });
}
