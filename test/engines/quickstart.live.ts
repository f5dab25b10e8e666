// The quick start of docs/vllm.md as it stands there, with paths of the test's own: a long prompt, a restart of everything, the same prompt.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { blocksOf } from '../docs/blocks.js';
import { ask as askSocket, freePort, type TestServer } from '../servers/server.js';
import { newSocket, startDaemon } from './daemon.js';
import { provideEnvironment, ROOT } from './environment.js';
import { filesystemStore } from './stores.js';

const MODEL = 'HuggingFaceTB/SmolLM2-135M-Instruct';
const SOCKET = '/run/kvreel/kvreel.sock';
const PROMPT_CHARACTERS = 6_000;
/** Full chunks of that at least. */
const CHUNKS = 4;

const store = filesystemStore();
const socket = newSocket();
let daemon: TestServer | undefined;
let stopEngine = async (): Promise<void> => undefined;

interface Answer {
  readonly text: string;
  readonly cached: number;
  readonly seconds: number;
}

/** The page's command that starts the engine. */
function documentedCommand(): string {
  const [block] = blocksOf(readFileSync(join(ROOT, 'docs/vllm.md'), 'utf8')).filter(({ language }) => language === 'sh');
  const command = block?.code.slice(block.code.indexOf('python -m vllm')).trim() ?? '';
  expect(command).toContain(MODEL);
  expect(command).toContain(SOCKET);
  return command;
}

/** Waits until something is so, for as long as the test may take. */
async function until(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await new Promise((resolve) => setTimeout(resolve, 100));
}

/** Starts the engine by the page's command; stops it as an operator does, so that its own processes end too. */
async function startEngineServer(port: number): Promise<() => Promise<void>> {
  const { python, model, env } = provideEnvironment();
  const ours = `--port ${port} --host 127.0.0.1 --dtype float32 --enforce-eager --max-model-len 4096 --enable-prompt-tokens-details`;
  const command = documentedCommand().replace('python', python).replace(MODEL, model('smollm2')).replace(SOCKET, socket);
  const offline = { HF_HUB_OFFLINE: '1', VLLM_NO_USAGE_STATS: '1', VLLM_CPU_KVCACHE_SPACE: '1' };
  const child = spawn('bash', ['-c', `exec ${command} ${ours}`], { env: { ...process.env, ...env, ...offline }, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text: Buffer) => (said = `${said}${text.toString()}`.slice(-10_000)));
  const ended = once(child, 'exit');
  const isReady = async (): Promise<boolean> => (await fetch(`http://127.0.0.1:${port}/health`).catch(() => undefined))?.ok === true;
  await until(async () => child.exitCode !== null || (await isReady()));
  if (child.exitCode !== null) throw new Error(`the engine ended:\n${said}`);
  return async () => {
    child.kill('SIGTERM');
    await ended;
  };
}

/** Starts daemon and engine, asks, and ends both. */
async function ask(): Promise<Answer> {
  const port = await freePort();
  daemon = await startDaemon(socket, store);
  stopEngine = await startEngineServer(port);
  const model = provideEnvironment().model('smollm2');
  const body = JSON.stringify({ model, prompt: readFileSync(join(ROOT, 'LICENSE'), 'utf8').slice(0, PROMPT_CHARACTERS), max_tokens: 12, temperature: 0 });
  const start = performance.now();
  const response = await fetch(`http://127.0.0.1:${port}/v1/completions`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  const { choices, usage } = (await response.json()) as { choices: { text: string }[]; usage: { prompt_tokens_details?: { cached_tokens?: number } | null } };
  const seconds = (performance.now() - start) / 1000;
  // The engine stores behind the answer's back.
  await until(async () => Number(/"objects":(\d+)/.exec(await askSocket(socket, 'GET /v1/usage HTTP/1.1\r\nHost: daemon\r\nConnection: close\r\n\r\n'))?.[1]) >= CHUNKS);
  await stopAll();
  return { text: choices[0]?.text ?? '', cached: usage.prompt_tokens_details?.cached_tokens ?? 0, seconds };
}

async function stopAll(): Promise<void> {
  await stopEngine();
  stopEngine = async () => undefined;
  await daemon?.stop();
  daemon = undefined;
}

afterAll(async () => {
  await stopAll();
  await store.stop();
});

describe('the quick start of docs/vllm.md', () => {
  it('says the same after a restart, from the store', async () => {
    const first = await ask();
    const second = await ask();
    console.log(`quick start: ${second.cached} tokens from the store, ${first.seconds.toFixed(2)} s and then ${second.seconds.toFixed(2)} s`);
    expect(first.cached).toBe(0);
    expect(second.cached).toBeGreaterThanOrEqual(CHUNKS * 256);
    expect(second.text).toBe(first.text);
    expect(second.text).not.toBe('');
  });
});
