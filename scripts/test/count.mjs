import { spawn, spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import { ROOT } from '../setup.mjs';

/** For what hangs: the longest part takes twenty minutes on two slow cores with nothing installed. */
const TIME_LIMIT_MS = 40 * 60 * 1000;

/** Runs a step, which gives what it counted of { passed, failed, skipped }. A step that throws counts as one failure. */
export async function runStep(name, step) {
  console.log(`\n== ${name} ==`);
  const start = performance.now();
  let counted;
  try {
    counted = await step();
  } catch (error) {
    console.error(error.message);
    counted = { failed: 1 };
  }
  return { name, passed: 0, failed: 0, skipped: 0, ...counted, seconds: (performance.now() - start) / 1000 };
}

/** Runs a command in the root of the checkout, its output shown. Throws unless it ends with 0. */
export function run(command, args) {
  const { status, signal, error } = spawnSync(command, args, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'], timeout: TIME_LIMIT_MS });
  if (status !== 0) throw new Error(`${basename(command)} ${args.join(' ')} ended with ${error?.message ?? signal ?? status}`);
}

/** Runs test programs ([path, ...arguments]), one a core at a time; each prints "N passed, M failed" last or counts as one test. */
export async function countPrograms(build) {
  const total = { passed: 0, failed: 0 };
  const waiting = build();
  const runThem = async () => {
    for (let program = waiting.shift(); program !== undefined; program = waiting.shift()) {
      const { passed, failed } = await countProgram(program);
      total.passed += passed;
      total.failed += failed;
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, runThem));
  return total;
}

async function countProgram([path, ...args]) {
  const { status, signal, error, stdout } = await outcomeOf(path, args);
  process.stdout.write(`${basename(path)}: ${stdout}`);
  const isGood = status === 0;
  if (!isGood) console.log(`${basename(path)} ended with ${error?.message ?? signal ?? status}`);
  const [, passed, failed] = /^(\d+) passed, (\d+) failed$/m.exec(lastLine(stdout)) ?? [0, isGood ? 1 : 0, 0];
  return { passed: Number(passed), failed: isGood ? Number(failed) : Math.max(1, Number(failed)) };
}

function outcomeOf(path, args) {
  return new Promise((resolve) => {
    const child = spawn(path, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'], timeout: TIME_LIMIT_MS });
    let stdout = '';
    child.stdout.setEncoding('utf8').on('data', (text) => (stdout += text));
    child.on('error', (error) => resolve({ error, stdout }));
    child.on('close', (status, signal) => resolve({ status, signal, stdout }));
  });
}

function lastLine(text) {
  return text.trimEnd().split('\n').at(-1);
}
