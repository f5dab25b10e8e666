import { spawnSync } from 'node:child_process';
import { basename } from 'node:path';
import { ROOT } from '../setup.mjs';

const TIME_LIMIT_MS = 20 * 60 * 1000;

/** Runs a step, which returns what it counted of { passed, failed, skipped }. A step that throws counts as one failure. */
export function runStep(name, step) {
  console.log(`\n== ${name} ==`);
  const start = performance.now();
  let counted;
  try {
    counted = step();
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

/** Runs test programs ([path, ...arguments]), each of which prints "N passed, M failed" last or counts as one test. */
export function countPrograms(build) {
  const total = { passed: 0, failed: 0 };
  for (const [path, ...args] of build()) {
    const { status, signal, error, stdout } = spawnSync(path, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8', timeout: TIME_LIMIT_MS });
    process.stdout.write(`${basename(path)}: ${stdout ?? ''}`);
    const isGood = status === 0;
    if (!isGood) console.log(`${basename(path)} ended with ${error?.message ?? signal ?? status}`);
    const [, passed, failed] = /^(\d+) passed, (\d+) failed$/m.exec(lastLine(stdout)) ?? [0, isGood ? 1 : 0, 0];
    total.passed += Number(passed);
    total.failed += isGood ? Number(failed) : Math.max(1, Number(failed));
  }
  return total;
}

function lastLine(text) {
  return text?.trimEnd().split('\n').at(-1) ?? '';
}
