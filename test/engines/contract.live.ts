// What engines would load, through the engines' own factories and kernels (contract/*.py), on a real daemon. Of SGLang and of vLLM's tier this is
// all that is tested: the engine itself does not run that on a CPU.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TestServer } from '../servers/server.js';
import { newSocket, startDaemon } from './daemon.js';
import { provideEnvironment, ROOT } from './environment.js';
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

describe('what engines load, through their own code', () => {
  it.each(['test_vllm_pages.py', 'test_vllm_loading.py', 'test_vllm_scheduler.py', 'test_vllm_tier.py', 'test_sglang_storage.py'])('%s', async (file) => {
    const { python, sglang, env } = provideEnvironment();
    const pytest = ['-m', 'pytest', '-q', '-p', 'no:cacheprovider', join(import.meta.dirname, 'contract', file)];
    const ours = { KVREEL_SOCKET: socket, KVREEL_SGLANG: sglang, KVREEL_REPOSITORY: ROOT };
    const { stdout } = await promisify(execFile)(python, pytest, { env: { ...process.env, ...env, ...ours } }).catch((error: unknown) => {
      const { stdout, stderr } = error as { stdout?: string; stderr?: string };
      return expect.fail(`${stdout}\n${stderr}`);
    });
    console.log(stdout.trimEnd().split('\n').at(-1));
  });
});
