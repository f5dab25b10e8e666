// The Python package on real daemons: its own tests, run by Python's unittest, and what they need of a daemon that the command line does not offer.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { startDaemon } from '../../connectors/engine/daemon.js';
import { memory } from '../../connectors/storage/memory.js';
import { cliProcess, type CliProcess } from '../engine/cli-process.js';

const PYTHON = 'python3';
const SOURCES = join(import.meta.dirname, '../../connectors/engine/python/src');

let cli: CliProcess;

beforeAll(async () => {
  cli = await cliProcess('cli-python');
});

afterAll(() => cli.dispose());

function environment(): NodeJS.ProcessEnv {
  return { ...process.env, KVREEL_CLI: cli.path, PYTHONPATH: SOURCES, PYTHONDONTWRITEBYTECODE: '1' };
}

describe('the Python client', { concurrent: true }, () => {
  const modules = readdirSync(import.meta.dirname).filter((name) => /^test_.*\.py$/.test(name));

  it.each(modules)('%s', { timeout: 180_000 }, async (name) => {
    const ran = promisify(execFile)(PYTHON, ['-m', 'unittest', name.replace('.py', '')], { cwd: import.meta.dirname, env: environment() });
    const { stderr } = await ran.catch((error: unknown) => ({ stderr: String((error as { stderr?: string }).stderr) }));
    expect(stderr).toMatch(/^OK$/m);
  });
});

describe('a segment of a daemon with short leases', () => {
  it('lives as long as its client, and no longer', async () => {
    const socket = cli.at('short-leases');
    const daemon = await startDaemon({ connector: memory(), socket, leaseMs: 500 });
    const client = spawn(PYTHON, [join(import.meta.dirname, 'hold_segment.py'), socket], { env: environment(), stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      const [path] = (await once(createInterface({ input: client.stdout }), 'line')) as [string];
      expect(existsSync(path)).toBe(true);
      // Five leases long it is renewed: the absence of an event cannot be waited for otherwise.
      const until = Date.now() + 2_500;
      await vi.waitUntil(() => !existsSync(path) || Date.now() > until, { timeout: 10_000 });
      expect(existsSync(path)).toBe(true);
      client.kill('SIGKILL');
      await vi.waitUntil(() => !existsSync(path), { timeout: 10_000 });
    } finally {
      client.kill('SIGKILL');
      await daemon.stop();
    }
  });
});
