import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { memory } from '../../../connectors/storage/memory.js';
import { tiered } from '../../../connectors/storage/tiered.js';
import { encode, KvError, KvStore, packLayout, unpackLayout, type KvLayout, type KvStoreOptions, type KvTensor, type StorageConnector } from '../../../lib/index.js';
import { PREAMBLE_BYTES, readObject } from '../../../lib/container/object.js';
import { keysOf, watched, withoutRange } from './connectors.js';
import { SMALL, tensorOf } from './tensors.js';

const A = 'a1'.repeat(32);
const B = 'b2'.repeat(32);
const C = 'c3'.repeat(32);

function storeOf(connector: StorageConnector, layout: KvLayout = SMALL, options: Partial<KvStoreOptions> = {}): KvStore {
  const { tokens: _, ...geometry } = layout;
  return new KvStore({ connector, namespace: { model: 'tiny', geometry }, groupTokens: 16, ...options });
}

async function objectAt(connector: StorageConnector, hash: string): Promise<{ key: string; object: Uint8Array }> {
  const key = (await keysOf(connector)).find((candidate) => candidate.endsWith(hash)) ?? '';
  return { key, object: (await connector.get(key)) ?? new Uint8Array(0) };
}

/** Not toEqual, which takes seconds for megabytes. */
function expectBytes(actual: Uint8Array | undefined, expected: Uint8Array): void {
  expect(actual?.length).toBe(expected.length);
  expect(Buffer.compare(actual ?? new Uint8Array(0), expected)).toBe(0);
}

/** The part of a tensor that spans name, in canonical order. */
function partOf(tensor: KvTensor, [layerBegin, layerEnd]: readonly [number, number], [begin, end]: readonly [number, number]): Buffer {
  const { layout, data } = packLayout(tensor);
  const row = 2 * layout.headDim;
  const rows: Uint8Array[] = [];
  const planes = layout.order === 'mla' ? 1 : 2 * layout.kvHeads;
  for (let plane = layerBegin * planes; plane < layerEnd * planes; plane++) rows.push(data.subarray((plane * layout.tokens + begin) * row, (plane * layout.tokens + end) * row));
  return Buffer.concat(rows);
}

describe('put and fetch', () => {
  it.each(['auto', 'exact', 'raw', 'zstd'])('gives back what was put, with its tokens and text (%s)', async (coder) => {
    const store = storeOf(memory(), SMALL, { coder });
    const tensor = { ...tensorOf(SMALL), start: 74 };
    const tokenIds = Int32Array.from({ length: 37 }, (_, i) => i);
    await store.put(A, tensor, { tokenIds, metadata: { text: 'x' } });
    expect(await store.fetch(A)).toEqual({ ...tensor, tokenIds, metadata: { text: 'x' } });
  });

  it('answers undefined for what was never put', async () => {
    expect(await storeOf(memory()).fetch(A)).toBeUndefined();
  });

  it('takes chunks of different lengths', async () => {
    const store = storeOf(memory());
    const short = tensorOf({ ...SMALL, tokens: 3 });
    await store.put(A, tensorOf(SMALL));
    await store.put(B, short);
    expectBytes((await store.fetch(B))?.data, short.data);
  });

  it('writes into the memory of the caller', async () => {
    const store = storeOf(memory());
    const tensor = tensorOf(SMALL);
    await store.put(A, tensor);
    const into = new Uint8Array(tensor.data.length);
    expect((await store.fetch(A, { into }))?.data).toBe(into);
    expectBytes(into, tensor.data);
    await expect(store.fetch(A, { into: into.subarray(1) })).rejects.toThrow(RangeError);
  });

  it('shares no memory between results, though it uses its own again', async () => {
    const { connector, puts } = watched(memory());
    const store = storeOf(connector, SMALL, { concurrency: 1 });
    const [first, second] = [tensorOf(SMALL, 1), tensorOf(SMALL, 2)];
    await store.put(A, first);
    await store.put(B, second);
    expect(puts[0]?.value.buffer).toBe(puts[1]?.value.buffer);
    const fetched = await store.fetch(A);
    await store.fetch(B);
    expectBytes(fetched?.data, first.data);
  });

  it('reads an object in one trip once it knows how large they are, and in two before', async () => {
    const layout: KvLayout = { ...SMALL, layers: 8, tokens: 256, kvHeads: 8, headDim: 64 };
    const tensor = tensorOf(layout);
    const inner = memory();
    await storeOf(inner, layout, { coder: 'raw' }).put(A, tensor);
    const { connector, reads } = watched(inner);
    const store = storeOf(connector, layout);
    expectBytes((await store.fetch(A))?.data, tensor.data);
    expect(reads).toHaveLength(2);
    expectBytes((await store.fetch(A))?.data, tensor.data);
    expect(reads).toHaveLength(3);
    const { object } = await objectAt(inner, A);
    expect(reads.slice(0, 2).reduce((sum, { bytes }) => sum + bytes, 0)).toBe(object.length);
  });

  it('works on a connector that cannot read ranges', async () => {
    const store = storeOf(withoutRange(memory()));
    const tensor = tensorOf(SMALL);
    await store.put(A, tensor);
    expectBytes((await store.fetch(A))?.data, tensor.data);
    expectBytes((await store.fetch(A, { layers: [1, 2] }))?.data, partOf(tensor, [1, 2], [0, 37]));
  });

  it('refuses a tensor of another geometry', async () => {
    await expect(storeOf(memory()).put(A, tensorOf({ ...SMALL, headDim: 4 }))).rejects.toThrow('geometry');
  });

  it.each(['', 'A1', 'a/../b', 'x'.repeat(200)])('refuses %j as a prefix hash', async (hash) => {
    await expect(storeOf(memory()).fetch(hash)).rejects.toThrow(TypeError);
    await expect(storeOf(memory()).put(hash, tensorOf(SMALL))).rejects.toThrow(TypeError);
  });

  it('passes on what the connector fails with', async () => {
    const down = new KvError('KV_CONNECTOR_UNAVAILABLE', 'down');
    const store = storeOf({ ...memory(), get: () => Promise.reject(down), put: () => Promise.reject(down), has: () => Promise.reject(down) });
    await expect(store.fetch(A)).rejects.toBe(down);
    await expect(store.put(A, tensorOf(SMALL))).rejects.toBe(down);
    await expect(store.lookup([A])).rejects.toBe(down);
  });
});

describe('fetch of a part', () => {
  it('moves the preamble, the header and the sections of the part, and nothing else', async () => {
    const inner = memory();
    const tensor = tensorOf(SMALL);
    await storeOf(inner).put(A, tensor);
    const { object } = await objectAt(inner, A);
    const { header, sectionStart } = readObject(object);
    const { connector, reads } = watched(inner);
    const part = await storeOf(connector).fetch(A, { layers: [1, 2], tokens: [16, 32] });
    expectBytes(part?.data, partOf(tensor, [1, 2], [16, 32]));
    expect(reads.map(({ bytes }) => bytes)).toEqual([PREAMBLE_BYTES, sectionStart - PREAMBLE_BYTES, header.lengths[4]]);
  });

  it('reads neighbouring sections in one range', async () => {
    const inner = memory();
    await storeOf(inner).put(A, tensorOf(SMALL));
    const { connector, reads } = watched(inner);
    await storeOf(connector).fetch(A, { layers: [0, 2] });
    expect(reads).toHaveLength(3);
    await storeOf(connector).fetch(A, { tokens: [0, 16] });
    expect(reads).toHaveLength(3 + 2 + SMALL.layers);
  });

  it('widens tokens to whole groups and says what it gives', async () => {
    const store = storeOf(memory());
    const tensor = { ...tensorOf(SMALL), start: 100 };
    await store.put(A, tensor, { tokenIds: Int32Array.from({ length: 37 }, (_, i) => i) });
    const part = await store.fetch(A, { tokens: [20, 36] });
    expect(part?.layout).toEqual({ ...SMALL, tokens: 21 });
    expect(part?.start).toBe(116);
    expect([...(part?.tokenIds ?? [])]).toEqual(Array.from({ length: 21 }, (_, i) => 16 + i));
  });

  const layouts: KvLayout[] = [
    SMALL,
    { ...SMALL, order: 'fused' },
    { ...SMALL, order: 'lmcache_2ltd' },
    { ...SMALL, order: 'mla', kvHeads: 1 },
    { ...SMALL, order: 'vllm_cpu_pages', tokens: 40, blockTokens: 8 },
    { ...SMALL, order: 'sglang_page_first', tokens: 40, blockTokens: 8 },
  ];
  const coders = ['exact', 'raw', 'zstd', 'rans', 'hevc'];
  const cases = layouts.flatMap((layout) => coders.map((coder) => ({ layout, order: layout.order, coder })));

  it.each(cases)('equals that part of the whole: $order, $coder', async ({ layout, coder }) => {
    const { tokens: _, ...geometry } = layout;
    const quality = coder === 'rans' || coder === 'hevc' ? 'lossy' : 'exact';
    const store = new KvStore({ connector: memory(), namespace: { model: 'tiny', geometry, quality }, coder, groupTokens: 16 });
    const tensor = unpackLayout(tensorOf({ ...layout, order: layout.order === 'mla' ? 'mla' : 'split' }), layout);
    await store.put(A, tensor);
    const whole = (await store.fetch(A)) ?? tensor;
    if (quality === 'exact') expectBytes(whole.data, tensor.data);
    const span = (most: number) => fc.tuple(fc.nat(most - 1), fc.nat(most - 1)).map(([a, b]) => [Math.min(a, b), Math.max(a, b) + 1] as const);
    await fc.assert(
      fc.asyncProperty(span(layout.layers), span(layout.tokens), async (layers, tokens) => {
        const part = await store.fetch(A, { layers, tokens });
        const begin = tokens[0] - (tokens[0] % 16);
        const end = Math.min(layout.tokens, Math.ceil(tokens[1] / 16) * 16);
        expectBytes(part?.data, partOf(whole, layers, [begin, end]));
        const inOrder = (await store.fetch(A, { layers, storedOrder: true })) ?? expect.fail();
        expect(inOrder.layout).toEqual({ ...layout, layers: layers[1] - layers[0] });
        expectBytes(packLayout(inOrder).data, partOf(whole, layers, [0, layout.tokens]));
      }),
      { numRuns: 25, seed: 1 },
    );
  });

  it('keeps the RoPE parameters of its layers', async () => {
    const layout: KvLayout = { ...SMALL, rope: { theta: [10, 20, 30], style: 'half' } };
    const store = storeOf(memory(), layout);
    await store.put(A, tensorOf(layout));
    expect((await store.fetch(A, { layers: [1, 3] }))?.layout.rope).toEqual({ theta: [20, 30], style: 'half' });
  });

  it.each([{ layers: [0, 4] }, { layers: [2, 2] }, { tokens: [-1, 4] }, { tokens: [40, 50] }, { layers: [0.5, 2] }] as const)('refuses the part %j', async (part) => {
    const store = storeOf(memory());
    await store.put(A, tensorOf(SMALL));
    await expect(store.fetch(A, part)).rejects.toThrow(RangeError);
  });

  it('refuses tokens in the order of the whole chunk', async () => {
    await expect(storeOf(memory()).fetch(A, { layers: [0, 1], tokens: [0, 16], storedOrder: true })).rejects.toThrow('storedOrder');
  });

  it('refuses a part of bytes, whose layout nobody knows', async () => {
    const layout: KvLayout = { ...SMALL, order: 'bytes', layers: 1, kvHeads: 1 };
    const store = storeOf(memory(), layout);
    await store.put(A, tensorOf(layout));
    await expect(store.fetch(A, { tokens: [0, 16] })).rejects.toThrow(RangeError);
    expectBytes((await store.fetch(A))?.data, tensorOf(layout).data);
  });
});

describe('objects that are not what they should be', () => {
  async function damaged(change: (object: Uint8Array) => Uint8Array) {
    const connector = memory();
    const onCorrupt = vi.fn();
    const store = storeOf(connector, SMALL, { onCorrupt });
    const tensor = tensorOf(SMALL);
    await store.put(A, tensor);
    const { key, object } = await objectAt(connector, A);
    await connector.put(key, change(object));
    return { store, onCorrupt, tensor, key, connector, object };
  }

  it('are a miss wherever a bit is flipped, whole or in part', async () => {
    const { store, onCorrupt, connector, key, object } = await damaged((bytes) => bytes);
    for (let at = 0; at < object.length; at += 3) {
      const flipped = object.slice();
      flipped[at] = (flipped[at] ?? 0) ^ (1 << at % 8);
      await connector.put(key, flipped);
      onCorrupt.mockClear();
      expect(await store.fetch(A), `byte ${at}`).toBeUndefined();
      expect(onCorrupt).toHaveBeenCalledTimes(1);
      await connector.put(key, flipped);
      const part = await store.fetch(A, { layers: [2, 3], tokens: [32, 33] });
      if (part) expectBytes(part.data, partOf(tensorOf(SMALL), [2, 3], [32, 37]));
    }
  });

  it('are a miss wherever they are cut', async () => {
    const { store, connector, key, object } = await damaged((bytes) => bytes);
    for (let length = 0; length < object.length; length += 5) {
      await connector.put(key, object.slice(0, length));
      expect(await store.fetch(A), `length ${length}`).toBeUndefined();
      await connector.put(key, object.slice(0, length));
      expect(await store.fetch(A, { layers: [2, 3], tokens: [32, 37] }), `length ${length}`).toBeUndefined();
    }
  });

  it('are a miss where something was added', async () => {
    const { store, onCorrupt } = await damaged((object) => new Uint8Array([...object, 0]));
    expect(await store.fetch(A)).toBeUndefined();
    expect(onCorrupt.mock.calls[0]?.[0]).toMatchObject({ code: 'KV_CORRUPT_OBJECT' });
  });

  it('are a miss under the key of another chunk', async () => {
    const { store, connector, key, object, onCorrupt } = await damaged((bytes) => bytes);
    await connector.put(key.replace(A, B), object);
    expect(await store.fetch(B)).toBeUndefined();
    await connector.put(key.replace(A, B), object);
    expect(await store.fetch(B, { layers: [0, 1] })).toBeUndefined();
    expect(onCorrupt.mock.calls.map(([error]) => (error as KvError).code)).toEqual(['KV_GEOMETRY_MISMATCH', 'KV_GEOMETRY_MISMATCH']);
  });

  it('are a miss in a store of another geometry', async () => {
    const connector = memory();
    await storeOf(connector).put(A, tensorOf(SMALL));
    const other = { ...SMALL, order: 'fused' } as const;
    const store = storeOf(connector, other, { onCorrupt: vi.fn() });
    const { key, object } = await objectAt(connector, A);
    await connector.put(`chunks/${store.namespace}/${A}`, object);
    expect(key).not.toContain(store.namespace);
    expect(await store.fetch(A)).toBeUndefined();
  });

  it('are a miss where the connector finds them damaged', async () => {
    const onCorrupt = vi.fn();
    const broken = Object.assign(new Error('bad entry'), { code: 'KV_CORRUPT_OBJECT' });
    expect(await storeOf({ ...memory(), get: () => Promise.reject(broken) }, SMALL, { onCorrupt }).fetch(A)).toBeUndefined();
    expect(onCorrupt).toHaveBeenCalledWith(broken, expect.stringContaining(A));
  });

  it('are a miss where the tensor would be larger than allowed', async () => {
    const connector = memory();
    await storeOf(connector).put(A, tensorOf(SMALL));
    expect(await storeOf(connector, SMALL, { maxBytes: 100 }).fetch(A)).toBeUndefined();
  });
});

describe('a damaged object', () => {
  const flip = (object: Uint8Array): Uint8Array => object.map((byte, i) => (i === object.length - 1 ? byte ^ 1 : byte));

  async function stored(wrap: (inner: StorageConnector) => StorageConnector = (inner) => inner) {
    const inner = memory();
    const onCorrupt = vi.fn();
    const store = storeOf(wrap(inner), SMALL, { onCorrupt });
    await store.put(A, tensorOf(SMALL));
    return { inner, store, onCorrupt, ...(await objectAt(inner, A)) };
  }

  it('is deleted, so that it is not found again and can be stored again', async () => {
    const { inner, store, key, object } = await stored();
    await inner.put(key, flip(object));
    expect(await store.lookup([A])).toBe(1);
    expect(await store.fetch(A)).toBeUndefined();
    expect(await store.lookup([A])).toBe(0);
    await store.put(A, tensorOf(SMALL));
    expectBytes((await store.fetch(A))?.data, tensorOf(SMALL).data);
  });

  it('is read once more first: what was damaged on its way is a hit', async () => {
    let reads = 0;
    const { store, onCorrupt, key, inner } = await stored((inner) => ({
      ...inner,
      get: async (key, { into: _, ...options } = {}) => {
        const value = await inner.get(key, options);
        return value && reads++ === 0 ? flip(value) : value;
      },
    }));
    expectBytes((await store.fetch(A))?.data, tensorOf(SMALL).data);
    expect(reads).toBe(2);
    expect(onCorrupt).toHaveBeenCalledTimes(1);
    expect(await inner.has(key)).toBe(true);
  });

  it('is replaced where the connector has a sound copy', async () => {
    const disk = memory();
    const remote = memory();
    const store = storeOf(tiered([disk, remote]));
    await store.put(A, tensorOf(SMALL));
    const { key, object } = await objectAt(remote, A);
    await disk.put(key, flip(object));
    expectBytes((await store.fetch(A))?.data, tensorOf(SMALL).data);
    expectBytes(await disk.get(key), object);
  });

  it('that cannot be deleted is a miss, and tells why', async () => {
    const refusal = new KvError('KV_PERMISSION', 'read only');
    const { inner, store, onCorrupt, key, object } = await stored((inner) => ({ ...inner, delete: () => Promise.reject(refusal) }));
    await inner.put(key, flip(object));
    expect(await store.fetch(A)).toBeUndefined();
    expect(onCorrupt.mock.calls.map(([error]) => (error as KvError).code)).toEqual(['KV_CORRUPT_OBJECT', 'KV_PERMISSION']);
  });

  it('of a newer version is left alone', async () => {
    const { inner, store, key, object } = await stored();
    const newer = object.slice();
    newer[4] = 2;
    await inner.put(key, newer);
    expect(await store.fetch(A)).toBeUndefined();
    expectBytes(await inner.get(key), newer);
  });
});

describe('a deadline', () => {
  it('ends a call with KV_CONNECTOR_TIMEOUT, also one that waits for its turn', async () => {
    const stuck = storeOf({ ...memory(), get: (_, { signal } = {}) => new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason))) }, SMALL, { concurrency: 1 });
    const outcomes = await Promise.allSettled([stuck.fetch(A, { deadlineMs: 30 }), stuck.fetch(B, { deadlineMs: 20 })]);
    for (const outcome of outcomes) expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'KV_CONNECTOR_TIMEOUT', retryable: true } });
    await stuck.close();
  });

  it.each([0, -1, NaN, 2 ** 31])('of %d ms is refused', async (deadlineMs) => {
    await expect(storeOf(memory()).fetch(A, { deadlineMs })).rejects.toThrow(RangeError);
  });
});

it('puts that are stuck do not hold up fetches', async () => {
  const inner = memory();
  const store = storeOf(inner, SMALL, { concurrency: 1 });
  await store.put(A, tensorOf(SMALL));
  const controller = new AbortController();
  const slow = storeOf({ ...inner, put: (_key, _value, { signal } = {}) => new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason))) }, SMALL, { concurrency: 1 });
  const put = slow.put(B, tensorOf(SMALL), { signal: controller.signal });
  expectBytes((await slow.fetch(A))?.data, tensorOf(SMALL).data);
  controller.abort(new Error('enough'));
  await expect(put).rejects.toThrow('enough');
});

describe('quality', () => {
  it('exact is never answered with a lossy object', async () => {
    const connector = memory();
    const { tokens: _, ...geometry } = SMALL;
    const lossy = new KvStore({ connector, namespace: { model: 'tiny', geometry, quality: 'lossy' } });
    await lossy.put(A, tensorOf(SMALL));
    expect(await lossy.fetch(A)).toBeDefined();
    expect(await lossy.fetch(A, { quality: 'exact' })).toBeUndefined();
    expect(await lossy.lookup([A], { quality: 'exact' })).toBe(0);
    // Not even where the object was moved to the exact one's place.
    const onCorrupt = vi.fn();
    const exact = storeOf(connector, SMALL, { onCorrupt });
    const { object } = await objectAt(connector, A);
    const key = `chunks/${exact.namespace}/${A}`;
    await connector.put(key, await encode((await lossy.fetch(A)) ?? tensorOf(SMALL), { quality: 'lossy', key }));
    expect(await exact.fetch(A)).toBeUndefined();
    await connector.put(key, object);
    expect(await exact.fetch(A)).toBeUndefined();
    expect(onCorrupt.mock.calls.map(([error]) => (error as KvError).code)).toEqual(['KV_GEOMETRY_MISMATCH', 'KV_GEOMETRY_MISMATCH']);
  });

  it('is part of the namespace: what was put as one is never given as another', async () => {
    const store = storeOf(memory());
    await store.put(A, tensorOf(SMALL));
    expect(await store.fetch(A, { quality: 'exact' })).toBeDefined();
    expect(await store.fetch(A, { quality: 'near' })).toBeUndefined();
    expect(await store.lookup([A], { quality: 'exact' })).toBe(1);
    await expect(store.fetch(A, { quality: 'whatever' })).rejects.toThrow(TypeError);
  });
});

describe('lookup', () => {
  it('counts the hits before the first miss', async () => {
    const store = storeOf(memory(), SMALL, { concurrency: 2 });
    for (const hash of [A, B]) await store.put(hash, tensorOf(SMALL));
    expect(await store.lookup([A, B])).toBe(2);
    expect(await store.lookup([A, B, C, A])).toBe(2);
    expect(await store.lookup([C, A])).toBe(0);
    expect(await store.lookup([])).toBe(0);
  });
});

describe('runs', () => {
  const run = [A, B, C].map((hash, i) => ({ hash, tensor: { ...tensorOf(SMALL, i), start: 37 * i } }));

  it('are found by their last hash, with text and sizes', async () => {
    const connector = memory();
    const store = storeOf(connector);
    const put = await store.putRun(run, { metadata: { text: 'three' } });
    const found = await store.lookupRun(C);
    expect(found).toEqual(put);
    expect(found?.chunks.map(({ hash }) => hash)).toEqual([A, B, C]);
    expect(found?.chunks[1]?.objectBytes).toBe((await objectAt(connector, B)).object.length);
    expect(await store.lookupRun(B)).toBeUndefined();
    for (const { hash, tensor } of run) expectBytes((await store.fetch(hash))?.data, tensor.data);
  });

  it('are published after their chunks', async () => {
    const { connector, puts } = watched(memory());
    await storeOf(connector).putRun(run);
    expect(puts.map(({ key }) => key.split('/')[0])).toEqual(['chunks', 'chunks', 'chunks', 'runs']);
  });

  it('are not published where a chunk fails, and no further chunk is made', async () => {
    const inner = memory();
    const full = new KvError('KV_NO_SPACE', 'full');
    let made = 0;
    const connector: StorageConnector = { ...inner, put: () => Promise.reject(full) };
    const store = storeOf(connector, SMALL, { concurrency: 1 });
    function* tensors() {
      for (const entry of run) {
        made++;
        yield entry;
      }
    }
    await expect(store.putRun(tensors())).rejects.toBe(full);
    expect(made).toBe(1);
    expect(await keysOf(inner)).toEqual([]);
  });

  it('are a miss where the manifest is damaged', async () => {
    const connector = memory();
    const onCorrupt = vi.fn();
    const store = storeOf(connector, SMALL, { onCorrupt });
    await store.putRun(run);
    await connector.put(`runs/${store.namespace}/${C}`, new Uint8Array(40));
    expect(await store.lookupRun(C)).toBeUndefined();
    expect(onCorrupt).toHaveBeenCalledOnce();
  });

  it('of a tenant are another tenant\'s miss, and the salt is stored nowhere', async () => {
    const connector = memory();
    const { tokens: _, ...geometry } = SMALL;
    const salted = new KvStore({ connector, namespace: { model: 'tiny', geometry, salt: 'hush-hush' } });
    await salted.putRun(run);
    expect(await storeOf(connector).lookup([A])).toBe(0);
    expect((await salted.lookupRun(C))?.description.isSalted).toBe(true);
    for (const key of await keysOf(connector)) expect(Buffer.from((await connector.get(key)) ?? []).includes('hush-hush') || key.includes('hush')).toBe(false);
  });
});

describe('abort and close', () => {
  const reason = new Error('enough');

  it('rejects every verb with the reason of a signal that is aborted already', async () => {
    const store = storeOf(memory());
    const signal = AbortSignal.abort(reason);
    await expect(store.put(A, tensorOf(SMALL), { signal })).rejects.toBe(reason);
    await expect(store.fetch(A, { signal })).rejects.toBe(reason);
    await expect(store.lookup([A], { signal })).rejects.toBe(reason);
    await expect(store.putRun([{ hash: A, tensor: tensorOf(SMALL) }], { signal })).rejects.toBe(reason);
  });

  it('takes a waiting call out at once and lets a running one settle', async () => {
    const gate = withResolvers();
    const inner = memory();
    const store = storeOf({ ...inner, get: async (key, options) => gate.promise.then(() => inner.get(key, options)) }, SMALL, { concurrency: 1 });
    await store.put(A, tensorOf(SMALL));
    const running = store.fetch(A);
    const controller = new AbortController();
    const waiting = store.fetch(A, { signal: controller.signal });
    controller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    gate.resolve();
    expectBytes((await running)?.data, tensorOf(SMALL).data);
    expect(await store.fetch(A)).toBeDefined();
  });

  it('close waits for running calls, refuses new ones, and may come twice', async () => {
    const gate = withResolvers();
    const inner = memory();
    const store = storeOf({ ...inner, get: async (key, options) => gate.promise.then(() => inner.get(key, options)) });
    await store.put(A, tensorOf(SMALL));
    const running = store.fetch(A);
    const closing = store.close();
    await expect(store.fetch(A)).rejects.toMatchObject({ code: 'KV_CLOSED' });
    await expect(store.put(A, tensorOf(SMALL))).rejects.toMatchObject({ code: 'KV_CLOSED' });
    gate.resolve();
    expect(await running).toBeDefined();
    await closing;
    await store.close();
    expect(await inner.has((await keysOf(inner))[0] ?? '')).toBe(true);
  });
});

describe('options', () => {
  const { tokens: _, ...geometry } = SMALL;
  const namespace = { model: 'tiny', geometry };

  it.each([
    { connector: memory() },
    { namespace },
    { connector: memory(), namespace, speed: 11 },
    { connector: memory(), namespace, concurrency: 0 },
    { connector: memory(), namespace, coder: 'mp3' },
    { connector: memory(), namespace: { ...namespace, geometry: SMALL } },
    { connector: memory(), namespace: { ...namespace, model: '' } },
    { connector: memory(), namespace: { ...namespace, tenant: 'x' } },
  ])('are refused where they cannot be', (options) => {
    expect(() => new KvStore(options as unknown as KvStoreOptions)).toThrow(/expected|unknown option/);
  });

  it('of put and fetch that nobody knows are refused', async () => {
    const store = storeOf(memory());
    await expect(store.put(A, tensorOf(SMALL), { ttl: 5 } as object)).rejects.toThrow(TypeError);
    await expect(store.fetch(A, { layer: 5 } as object)).rejects.toThrow(TypeError);
  });
});

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((settle) => (resolve = settle));
  return { promise, resolve };
}
