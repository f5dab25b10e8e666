// The quick starts of docs/vllm.md and docs/vllm-lmcache.md as they stand there, with paths and ports of the test's own: a long prompt, a
// restart of everything, the same prompt.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { blocksOf } from '../docs/blocks.js';
import { ask as askSocket, freePort, type TestServer } from '../servers/server.js';
import { newSocket, startDaemon } from './daemon.js';
import { provideEnvironment, ROOT } from './environment.js';
import { filesystemStore, type Store } from './stores.js';
import { until } from './until.js';

const MODEL = 'HuggingFaceTB/SmolLM2-135M-Instruct';
const SOCKET = '/run/kvreel/kvreel.sock';
/** Full chunks of the prompt at least. */
const CHUNKS = 4;

/** What runs, the last one first. */
const running: Running[] = [];

type Running = Pick<TestServer, 'stop'>;

interface Answer {
  readonly text: string;
  readonly cached: number;
  readonly seconds: number;
}

/** A page's command, from its first words to where the next one begins. */
function documentedCommand(page: string, words: string): string {
  const code = blocksOf(readFileSync(join(ROOT, 'docs', page), 'utf8')).find(({ language }) => language === 'sh')?.code ?? '';
  const [, command] = new RegExp(`^(${words}.*(?:\\n .*)*)`, 'm').exec(code) ?? [];
  return command?.replace(/ &$/, '') ?? expect.fail(`docs/${page} has no ${words}`);
}

/** Starts a server by a page's command; stops it as an operator does, so that its own processes end too. */
async function start(command: string, url: string): Promise<Running> {
  const { python, env } = provideEnvironment();
  const quiet = { HF_HUB_OFFLINE: '1', VLLM_NO_USAGE_STATS: '1', VLLM_CPU_KVCACHE_SPACE: '1', LMCACHE_TRACK_USAGE: 'false' };
  const path = `${dirname(python)}:${process.env.PATH}`;
  const child = spawn('bash', ['-c', `exec ${command}`], { env: { ...process.env, ...env, ...quiet, PATH: path }, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text: Buffer) => (said = `${said}${text.toString()}`.slice(-10_000)));
  const ended = once(child, 'exit');
  const isReady = async (): Promise<boolean> => (await fetch(url).catch(() => undefined))?.ok === true;
  await until(async () => child.exitCode !== null || (await isReady()));
  if (child.exitCode !== null) throw new Error(`${command} ended:\n${said}`);
  return {
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

/** Starts what docs/vllm-lmcache.md has between daemon and engine, and gives what the engine is told of its port. */
async function startLmcache(socket: string): Promise<string> {
  const [port, httpPort] = [await freePort(), await freePort()];
  const ours = `--host 127.0.0.1 --port ${port} --http-host 127.0.0.1 --http-port ${httpPort} --l1-size-gb 0.5 --shm-name quickstart-${port}`;
  const command = documentedCommand('vllm-lmcache.md', 'lmcache server').replace('lmcache', 'python -m lmcache.cli.main').replace(SOCKET, socket);
  running.unshift(await start(`${command} ${ours}`, `http://127.0.0.1:${httpPort}/healthcheck`));
  return `"kv_connector_extra_config": {"lmcache.mp.host": "tcp://127.0.0.1", "lmcache.mp.port": ${port}}, `;
}

/** Asks by the page's own program, and reads what it prints. */
async function askEngine(port: number, model: string): Promise<Answer> {
  const program = blocksOf(readFileSync(join(ROOT, 'docs/vllm.md'), 'utf8')).find(({ language }) => language === 'python')?.code ?? expect.fail('docs/vllm.md has no program that asks');
  const ours = program.replace('localhost:8000', `127.0.0.1:${port}`).replace(MODEL, model);
  const { stdout } = await promisify(execFile)(provideEnvironment().python, ['-c', ours], { cwd: ROOT });
  const [, seconds, cached, text] = /^([\d.]+) s, (\d+) tokens from the store: (.+)\n$/.exec(stdout) ?? expect.fail(`the program printed ${stdout}`);
  return { text: text ?? '', cached: Number(cached), seconds: Number(seconds) };
}

/** Starts everything, asks, and ends everything. */
async function ask(page: string, store: Store): Promise<Answer> {
  const socket = newSocket();
  running.unshift(await startDaemon(socket, store));
  const more = page === 'vllm-lmcache.md' ? await startLmcache(socket) : '';
  const [port, model] = [await freePort(), provideEnvironment().model('smollm2')];
  const ours = `--port ${port} --host 127.0.0.1 --dtype float32 --enforce-eager --max-model-len 4096`;
  const command = documentedCommand(page, 'python -m vllm').replace(MODEL, model).replace(SOCKET, socket).replace('"kv_role"', `${more}"kv_role"`);
  running.unshift(await start(`${command} ${ours}`, `http://127.0.0.1:${port}/health`));
  const answer = await askEngine(port, model);
  // The engine stores behind the answer's back.
  await until(async () => Number(/"objects":(\d+)/.exec(await askSocket(socket, 'GET /v1/usage HTTP/1.1\r\nHost: daemon\r\nConnection: close\r\n\r\n'))?.[1]) >= CHUNKS);
  await stopAll();
  return answer;
}

async function stopAll(): Promise<void> {
  for (const one of running.splice(0)) await one.stop();
}

afterEach(stopAll);

describe('a quick start', () => {
  it.each(['vllm.md', 'vllm-lmcache.md'])('docs/%s says the same after a restart, from the store', async (page) => {
    const store = filesystemStore();
    try {
      const first = await ask(page, store);
      const second = await ask(page, store);
      console.log(`${page}: ${second.cached} tokens from the store, ${first.seconds} s and then ${second.seconds} s`);
      expect(first.cached).toBe(0);
      expect(second.cached).toBeGreaterThanOrEqual(CHUNKS * 256);
      expect(second.text).toBe(first.text);
      expect(second.text).not.toBe("''");
    } finally {
      await store.stop();
    }
  });
});
