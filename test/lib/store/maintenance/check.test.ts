import { describe, expect, it } from 'vitest';
import { memory } from '../../../../connectors/storage/memory.js';
import { tiered } from '../../../../connectors/storage/tiered.js';
import { encode, type StorageConnector } from '../../../../lib/index.js';
import { checkStore, type StoreFinding } from '../../../../lib/store/maintenance/check.js';
import { chunkKey, runKey } from '../../../../lib/store/namespace.js';
import { keysOf } from '../connectors.js';
import { SMALL, tensorOf } from '../tensors.js';
import { damage, hashOf, putRun } from './filled-store.js';

const [A, B, C] = [hashOf(20), hashOf(21), hashOf(22)];

interface Twins {
  readonly store: StorageConnector;
  /** Another store with the same values. */
  readonly twin: StorageConnector;
  readonly chunk: (hash: string) => string;
  readonly run: string;
}

/** Two stores with the same run of three chunks. */
async function twins(): Promise<Twins> {
  const [store, twin] = [memory(), memory()];
  const { namespace } = await putRun(store, [A, B, C]);
  await putRun(twin, [A, B, C]);
  return { store, twin, chunk: (hash) => chunkKey(namespace, hash), run: runKey(namespace, C) };
}

async function check(connector: StorageConnector, options: { repair?: boolean; from?: StorageConnector } = {}) {
  const findings: StoreFinding[] = [];
  return { totals: await checkStore(connector, { ...options, onFinding: (finding) => findings.push(finding) }), findings };
}

async function contents(connector: StorageConnector): Promise<[string, string][]> {
  return Promise.all((await keysOf(connector)).map(async (key): Promise<[string, string]> => [key, Buffer.from((await connector.get(key)) ?? []).toString('base64')]));
}

describe('checkStore', () => {
  it('finds nothing in a sound store, having read all of it', async () => {
    const { store } = await twins();
    let bytes = 0;
    for await (const value of store.list('')) bytes += value.bytes;
    const { totals, findings } = await check(store);
    expect(totals).toEqual({ chunks: 3, runs: 1, bytes, damaged: 0, incomplete: 0, unknown: 0, replaced: 0, deleted: 0 });
    expect(findings).toEqual([]);
  });

  const damages: readonly [what: string, ({ store, chunk, run }: Twins) => Promise<unknown>, at: 'chunk' | 'run'][] = [
    ['a chunk with a turned bit in its last section', ({ store, chunk }) => damage(store, chunk(B)), 'chunk'],
    ['a chunk with a turned bit in its header', ({ store, chunk }) => damage(store, chunk(B), 50), 'chunk'],
    ['a chunk cut short', async ({ store, chunk }) => store.put(chunk(B), ((await store.get(chunk(B))) ?? new Uint8Array(0)).subarray(0, 700)), 'chunk'],
    ['an empty chunk', ({ store, chunk }) => store.put(chunk(B), new Uint8Array(0)), 'chunk'],
    ["another key's object", async ({ store, chunk }) => store.put(chunk(B), (await store.get(chunk(A))) ?? new Uint8Array(0)), 'chunk'],
    ['an object of another geometry', async ({ store, chunk }) => store.put(chunk(B), await encode(tensorOf({ ...SMALL, layers: 2 }), { key: chunk(B) })), 'chunk'],
    ['an object of another rung', async ({ store, chunk }) => store.put(chunk(B), await encode(tensorOf(SMALL), { key: chunk(B), quality: 'q4' })), 'chunk'],
    ['a manifest with a turned bit', ({ store, run }) => damage(store, run), 'run'],
    ['a chunk in place of a manifest', async ({ store, run, chunk }) => store.put(run, (await store.get(chunk(A))) ?? new Uint8Array(0)), 'run'],
  ];

  it.each(damages)('finds %s and leaves it', async (_, doDamage, at) => {
    const store = await twins();
    await doDamage(store);
    const before = await contents(store.store);
    const { totals, findings } = await check(store.store);
    expect(findings).toMatchObject([{ key: at === 'chunk' ? store.chunk(B) : store.run, problem: 'damaged', action: 'none' }]);
    expect(totals).toMatchObject({ damaged: 1, replaced: 0, deleted: 0 });
    expect(await contents(store.store)).toEqual(before);
  });

  it.each(damages)('repairs %s from a store that has a sound copy', async (_, doDamage) => {
    const { twin, ...rest } = await twins();
    await doDamage({ twin, ...rest });
    const { totals } = await check(rest.store, { repair: true, from: twin });
    expect(totals).toMatchObject({ damaged: 1, replaced: 1, deleted: 0 });
    expect(await contents(rest.store)).toEqual(await contents(twin));
  });

  it.each(damages)('deletes %s where no sound copy is, and the run that lacks it', async (_, doDamage, at) => {
    const all = await twins();
    await doDamage(all);
    // The copy is no better.
    for (const key of await keysOf(all.twin)) await damage(all.twin, key);
    const { totals } = await check(all.store, { repair: true, from: all.twin });
    expect(totals).toMatchObject(at === 'chunk' ? { damaged: 1, incomplete: 1, deleted: 2 } : { damaged: 1, incomplete: 0, deleted: 1 });
    const left = await keysOf(all.store);
    expect(left).toEqual(at === 'chunk' ? [all.chunk(A), all.chunk(C)] : [all.chunk(A), all.chunk(B), all.chunk(C)]);
    expect((await check(all.store)).findings).toEqual([]);
  });

  it('finds a run whose chunk is gone, and fetches the chunk from the copy', async () => {
    const { store, twin, chunk, run } = await twins();
    await store.delete(chunk(A));
    expect((await check(store)).findings).toMatchObject([{ key: run, problem: 'incomplete', action: 'none' }]);
    expect((await check(store, { repair: true, from: twin })).totals).toMatchObject({ incomplete: 1, replaced: 1, deleted: 0 });
    expect(await contents(store)).toEqual(await contents(twin));
  });

  it('lets a storage of several copies repair itself from its sound one', async () => {
    const [upper, lower] = [memory(), memory()];
    const both = tiered([upper, lower]);
    const { namespace } = await putRun(both, [A, B]);
    await damage(upper, chunkKey(namespace, A));
    expect((await check(both, { repair: true })).totals).toMatchObject({ damaged: 1, replaced: 1, deleted: 0 });
    expect(await contents(upper)).toEqual(await contents(lower));

    for (const tier of [upper, lower]) await damage(tier, chunkKey(namespace, A));
    expect((await check(both, { repair: true })).totals).toMatchObject({ damaged: 1, incomplete: 1, deleted: 2 });
    for (const tier of [upper, lower]) expect(await keysOf(tier)).toEqual([chunkKey(namespace, B)]);
    await both.close();
  });

  it('never touches what a newer version may have written', async () => {
    const { store, twin, chunk, run } = await twins();
    for (const key of [chunk(A), run]) {
      const value = (await store.get(key)) ?? new Uint8Array(0);
      value[4] = 9; // the version
      await store.put(key, value);
    }
    const before = await contents(store);
    const { totals, findings } = await check(store, { repair: true, from: twin });
    expect(totals).toMatchObject({ unknown: 2, damaged: 0, replaced: 0, deleted: 0 });
    expect(findings.map(({ problem }) => problem)).toEqual(['unknown', 'unknown']);
    expect(await contents(store)).toEqual(before);
  });

  it('rejects with what the store rejects with, and repairs nothing by guess', async () => {
    const { store, twin, chunk } = await twins();
    await damage(store, chunk(B));
    await twin.close();
    await expect(check(store, { repair: true, from: twin })).rejects.toMatchObject({ code: 'KV_CLOSED' });
    expect(await store.has(chunk(B))).toBe(true);
  });

  it('stops with the reason of its signal', async () => {
    const { store } = await twins();
    const controller = new AbortController();
    const reason = new Error('stop');
    await expect(checkStore(store, { signal: controller.signal, onProgress: () => controller.abort(reason) })).rejects.toBe(reason);
  });

  it('holds no more objects than `concurrency`', async () => {
    const store = memory();
    for (let i = 0; i < 20; i++) await putRun(store, [hashOf(i)]);
    let held = 0;
    let most = 0;
    const counted: StorageConnector = {
      ...store,
      async get(key, options) {
        most = Math.max(most, ++held);
        const value = await store.get(key, options);
        await new Promise(setImmediate);
        held--;
        return value;
      },
    };
    await checkStore(counted, { concurrency: 3 });
    expect(most).toBe(3);
  });
});
