// Contracts of engines that do not run here: the classes they would load, through their own factories (contract/*.py), on a real daemon.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TestServer } from '../servers/server.js';
import { newSocket, startDaemon } from './daemon.js';
import { provideEnvironment } from './environment.js';
import { filesystemStore } from './stores.js';

const socket = newSocket();
const store = filesystemStore();
let daemon: TestServer | undefined;

beforeAll(async () => {
  daemon = await startDaemon(socket, store);
});

afterAll(async () => {
  await daemon?.stop();
  await store.stop();
});

describe('contract only, the engine itself does not run on a CPU', () => {
  it.each(['test_vllm_tier.py'])('%s', (file) => {
    const { python, env } = provideEnvironment();
    const pytest = ['-m', 'pytest', '-q', '-p', 'no:cacheprovider', join(import.meta.dirname, 'contract', file)];
    const { status, stdout, stderr } = spawnSync(python, pytest, { encoding: 'utf8', env: { ...process.env, ...env, KVREEL_SOCKET: socket, PYTHONDONTWRITEBYTECODE: '1' } });
    console.log(stdout.trimEnd().split('\n').at(-1));
    expect(status, `${stdout}\n${stderr}`).toBe(0);
  });
});
