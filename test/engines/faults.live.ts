// Whatever happens to daemon, store and link: the engine answers with the same tokens, within its deadline and the time to recompute.
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startProxy, type Proxy } from '../faults/proxy.js';
import type { TestServer } from '../servers/server.js';
import { newSocket, startDaemon } from './daemon.js';
import { ourConnector, startEngine, type Completion, type Engine, type Prompt } from './engine.js';
import { fullChunks, NEW_TOKENS, SHORT } from './prompts.js';
import { filesystemStore, redisStore, type Store } from './stores.js';
import { stored } from './stored.js';

const DEADLINE_MS = 6_000;
/** A hundredth of 1 Gbit/s. */
const SLOW_BYTES_PER_SECOND = 1_250_000;

const socket = newSocket();
const [, prompt = { text: '', tokens: 0 }] = SHORT;
let engine: Engine;
let daemon: TestServer;
let redis: Store;
let proxy: Proxy;
let behindProxy: Pick<Store, 'url' | 'env'>;
let miss: Completion;

async function complete(asked: Prompt = prompt): Promise<Completion> {
  await engine.forget();
  const [completion] = await engine.complete([asked], NEW_TOKENS);
  return completion ?? expect.fail();
}

/** The same tokens as ever, in time. A machine that does other things too may take some times as long as it did before. */
function expectSame(completion: Completion, before: Completion = miss): void {
  expect(completion.tokens).toEqual(before.tokens);
  expect(completion.seconds).toBeLessThan(DEADLINE_MS / 1000 + 4 * before.seconds);
}

/** Waits until so many bytes have passed the proxy. */
async function passed(direction: 'toClient' | 'toServer', bytes: number): Promise<void> {
  while (proxy.bytes[direction] < bytes) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** A fresh daemon: it remembers nothing of the store. */
async function restartDaemon(store: Pick<Store, 'url' | 'env'> = behindProxy): Promise<void> {
  await daemon.stop();
  daemon = await startDaemon(socket, store);
}

beforeAll(async () => {
  redis = await redisStore();
  proxy = await startProxy({ port: redis.port });
  behindProxy = { url: `redis://127.0.0.1:${proxy.port}`, env: {} };
  daemon = await startDaemon(socket, behindProxy);
  engine = await startEngine({ model: 'smollm2', kvTransfer: ourConnector(socket, { deadline_ms: DEADLINE_MS }) });
  await engine.complete([{ ...prompt, tokens: 40 }], 2);
  miss = await complete();
  await stored(engine);
});

afterAll(async () => {
  await engine?.stop();
  await daemon?.stop();
  await proxy?.close();
  await redis?.stop();
});

describe('the same tokens', () => {
  it('from a hit', async () => {
    await restartDaemon();
    const hit = await complete();
    expect(hit.cached).toBe(fullChunks(prompt));
    expectSame(hit);
  });

  it('over a link at a hundredth of its speed', async () => {
    await restartDaemon();
    await proxy.set({ kind: 'bandwidth', bytesPerSecond: SLOW_BYTES_PER_SECOND });
    expectSame(await complete());
    await proxy.set(undefined);
  });

  it('when the daemon is killed in the middle of a load', async () => {
    await restartDaemon();
    await proxy.set({ kind: 'bandwidth', bytesPerSecond: SLOW_BYTES_PER_SECOND });
    const before = proxy.bytes.toClient;
    const running = complete();
    await passed('toClient', before + SLOW_BYTES_PER_SECOND / 4);
    await daemon.kill();
    expectSame(await running);
    await proxy.set(undefined);
  });

  it('when the daemon is killed in the middle of a lookup', async () => {
    await restartDaemon();
    await proxy.set({ kind: 'blackhole' });
    const before = proxy.connections.accepted;
    const running = complete();
    while (proxy.connections.accepted === before) await new Promise((resolve) => setTimeout(resolve, 5));
    await daemon.kill();
    expectSame(await running);
    await proxy.set(undefined);
  });

  it('when the daemon does not answer any more', async () => {
    await restartDaemon();
    daemon.pause();
    expectSame(await complete());
    daemon.resume();
  });

  it('when the store is away', async () => {
    await restartDaemon();
    await proxy.set({ kind: 'refuse' });
    expectSame(await complete());
    await proxy.set(undefined);
  });

  it('when the daemon is killed in the middle of a store, and from what it then has', async () => {
    await restartDaemon();
    await proxy.set({ kind: 'bandwidth', bytesPerSecond: SLOW_BYTES_PER_SECOND, direction: 'toServer' });
    const before = proxy.bytes.toServer;
    const other = { ...prompt, skip: 40 };
    const first = await complete(other);
    await passed('toServer', before + SLOW_BYTES_PER_SECOND / 4);
    await daemon.kill();
    await proxy.set(undefined);
    await restartDaemon();
    expectSame(await complete(other), first);
  });

  it('from a store in which every object is damaged', async () => {
    const damaged = filesystemStore();
    await restartDaemon(damaged);
    expectSame(await complete());
    await stored(engine);
    const objects = flipAll(damaged.url.replace('fs://', ''));
    expect(objects).toBe(fullChunks(prompt) / 256);
    await restartDaemon(damaged);
    expectSame(await complete());
    expect((await engine.counts()).client.misses).not.toEqual({});
    await daemon.stop();
    await damaged.stop();
  });
});

/** Flips a bit in the middle of each file; how many there were. */
function flipAll(directory: string): number {
  const files = readdirSync(directory, { recursive: true, encoding: 'utf8' }).map((name) => join(directory, name)).filter((path) => statSync(path).isFile());
  for (const path of files) {
    const bytes = readFileSync(path);
    const middle = bytes.length >> 1;
    bytes[middle] = (bytes[middle] ?? 0) ^ 16;
    writeFileSync(path, bytes);
  }
  return files.length;
}
