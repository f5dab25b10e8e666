// Whatever happens to daemon, store and link: the engine answers with the same tokens, within its deadline and the time to recompute.
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { faultyWorld, type FaultyWorld } from './faulty-world.js';
import { CHUNK_TOKENS, fullChunks } from './prompts.js';
import { filesystemStore } from './stores.js';
import { stored } from './stored.js';
import { until } from './until.js';
import { byLmcache, SMOLLM2 } from './wirings.js';

/** A hundredth of 1 Gbit/s. */
const SLOW = { kind: 'bandwidth', bytesPerSecond: 1_250_000 } as const;

/** What every model has to come through. */
function comesThrough({ prompt, daemon, proxy, complete, restartDaemon, passing, expectSame }: FaultyWorld): void {
  it('from a hit', async () => {
    await restartDaemon();
    const hit = await complete();
    expect(hit.cached).toBe(fullChunks(prompt));
    expectSame(hit);
  });

  it('over a link at a hundredth of its speed', async () => {
    await restartDaemon();
    await proxy().set(SLOW);
    expectSame(await complete());
    await proxy().set(undefined);
  });

  it('when the daemon is killed in the middle of a load', async () => {
    await restartDaemon();
    await proxy().set(SLOW);
    const some = passing('toClient', SLOW.bytesPerSecond / 4);
    const running = complete();
    await some();
    await daemon().kill();
    expectSame(await running);
    await proxy().set(undefined);
  });
}

async function killedInLookup({ daemon, proxy, complete, restartDaemon, expectSame }: FaultyWorld): Promise<void> {
  await restartDaemon();
  await proxy().set({ kind: 'blackhole' });
  const before = proxy().connections.accepted;
  const running = complete();
  await until(() => proxy().connections.accepted > before, 5);
  await daemon().kill();
  expectSame(await running);
  await proxy().set(undefined);
}

describe('the same tokens', () => {
  const world = faultyWorld('smollm2');
  const { prompt, engine, daemon, proxy, complete, restartDaemon, passing, expectSame } = world;
  comesThrough(world);

  it('when the daemon is killed in the middle of a lookup', () => killedInLookup(world));

  it('when the daemon does not answer any more', async () => {
    await restartDaemon();
    daemon().pause();
    expectSame(await complete());
    daemon().resume();
  });

  it('when the store is away', async () => {
    await restartDaemon();
    await proxy().set({ kind: 'refuse' });
    expectSame(await complete());
    await proxy().set(undefined);
  });

  it('when the daemon is killed in the middle of a store, and from what it then has', async () => {
    await restartDaemon();
    await proxy().set({ ...SLOW, direction: 'toServer' });
    const other = { ...prompt, skip: 40 };
    const some = passing('toServer', SLOW.bytesPerSecond / 4);
    const first = await complete(other);
    await some();
    await daemon().kill();
    await proxy().set(undefined);
    await restartDaemon();
    expectSame(await complete(other), first);
  });

  it('from a store in which every object is damaged', async () => {
    const damaged = filesystemStore();
    await restartDaemon(damaged);
    expectSame(await complete());
    await stored(engine());
    expect(flipAll(damaged.url.replace('fs://', ''))).toBe(fullChunks(prompt) / CHUNK_TOKENS);
    await restartDaemon(damaged);
    expectSame(await complete());
    expect((await engine().counts()).client.misses).not.toEqual({});
    await daemon().stop();
    await damaged.stop();
  });
});

// Loads run between steps, and vLLM is told of whole requests that have failed, not of blocks.
describe('the same tokens of a model with several cache groups', () => comesThrough(faultyWorld('gemma3')));

describe('the same tokens through LMCache', () => {
  // LMCache lets go of a request's blocks some time after it, and until then the engine cannot forget them.
  const world = faultyWorld('smollm2', async (socket, chunks) => ({ ...(await byLmcache(socket, chunks, SMOLLM2)), more: { enable_prefix_caching: false } }));
  const { prompt, complete, restartDaemon, expectSame } = world;

  it('when the daemon is killed in the middle of a lookup, and from a hit once it is back', async () => {
    await killedInLookup(world);
    await restartDaemon();
    const hit = await complete();
    expect(hit.cached).toBe(fullChunks(prompt));
    expectSame(hit);
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
