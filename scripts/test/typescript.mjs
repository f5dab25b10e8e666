import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../setup.mjs';
import { run } from './count.mjs';

/** The type check; one test. */
export function types() {
  run(process.execPath, ['node_modules/typescript/bin/tsc', '--noEmit']);
  console.log('no type error');
  return { passed: 1 };
}

/** All test/**\/*.test.ts. */
export const vitest = () => runVitest('vitest');

/** test/lmcache: our reading and writing of LMCache's objects beside the real LMCache. */
export const lmcache = () => runVitest('lmcache', '--config', 'test/lmcache/vitest.config.ts');

/** test/llama: sessions of the real llama.cpp, and the examples of docs/llama.md. */
export const llama = () => runVitest('llama', '--config', 'test/llama/vitest.config.ts');

/** test/engines: real vLLM and LMCache over a real daemon. */
export const engines = () => runVitest('engines', '--config', 'test/engines/vitest.config.ts');

function runVitest(name, ...options) {
  const report = `.cache/${name}.json`;
  rmSync(join(ROOT, report), { force: true });
  const failure = failureOf(() => run(process.execPath, ['node_modules/vitest/vitest.mjs', 'run', ...options, '--reporter=default', '--reporter=json', `--outputFile.json=${report}`]));
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests } = JSON.parse(readFileSync(join(ROOT, report), 'utf8'));
  // A file that does not even load, or an error outside any test, fails the run without failing a test.
  return { passed: numPassedTests, failed: failure ? Math.max(1, numFailedTests) : 0, skipped: numPendingTests + numTodoTests };
}

function failureOf(work) {
  try {
    work();
    return undefined;
  } catch (error) {
    return error;
  }
}
