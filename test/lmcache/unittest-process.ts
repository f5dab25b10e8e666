// Python's unittest with the real LMCache and our package, on daemons of the built command line.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'vitest';
import { lmcachePython } from './lmcache-process.js';

const SOURCES = join(import.meta.dirname, '../../connectors/engine/python/src');
const HELPERS = join(import.meta.dirname, '../python');

/** The environment of a Python with our package; `cliPath` is the built command line. */
export function pythonEnvironment(cliPath: string): NodeJS.ProcessEnv {
  const quiet = { LMCACHE_TRACK_USAGE: 'false', LMCACHE_LOG_LEVEL: 'WARNING', LMCACHE_DISABLE_BANNER: '1', PYTHONDONTWRITEBYTECODE: '1' };
  return { ...process.env, ...quiet, KVREEL_CLI: cliPath, PYTHONPATH: `${SOURCES}:${HELPERS}` };
}

/** Runs a module of tests beside this file; fails the test with what unittest says. */
export async function runUnittest(module: string, cliPath: string): Promise<void> {
  const ran = promisify(execFile)(lmcachePython(), ['-m', 'unittest', module], { cwd: import.meta.dirname, env: pythonEnvironment(cliPath) });
  const { stderr } = await ran.catch((error: unknown) => ({ stderr: String((error as { stderr?: string }).stderr) }));
  expect(stderr).toMatch(/^OK$/m);
}
