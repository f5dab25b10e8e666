import { describe, expect, it } from 'vitest';
import { makeLayouts } from '../../connectors/engine/lm/layouts.js';
import type { EngineName } from '../../connectors/engine/lm/protocol.js';
import { memory } from '../../connectors/storage/memory.js';
import { encode } from '../../lib/codec/codec.js';
import { listStored } from '../../lib/store/listing.js';
import type { KvGeometry } from '../../lib/store/namespace.js';

const NAME: EngineName = { kind: 'engine', parts: { model: 'org/model', worldSize: 2, workerId: 1, hash: 'abc', dtype: 'bfloat16' } };
const geometry = (layers: number): KvGeometry => ({ order: 'lmcache_2ltd', dtype: 'bf16', layers, kvHeads: 2, headDim: 64 });
const { signal } = new AbortController();

describe('layouts', () => {
  it('are found by another server, whatever the worker, tags and hash, and by no other model', async () => {
    const connector = memory();
    await makeLayouts(connector).learn(NAME, geometry(30), signal);
    const other = makeLayouts(connector);
    expect(await other.of({ kind: 'engine', parts: { ...NAME.parts, workerId: 0, hash: '1', tags: [['a', 'b']] } }, signal)).toEqual([geometry(30)]);
    for (const over of [{ model: 'x' }, { worldSize: 4 }, { dtype: 'half' as const }]) expect(await other.of({ kind: 'engine', parts: { ...NAME.parts, ...over } }, signal)).toEqual([]);
  });

  it('of two servers at once are all kept', async () => {
    const connector = memory();
    const [one, two] = [makeLayouts(connector), makeLayouts(connector)];
    await one.learn(NAME, geometry(1), signal);
    await two.learn(NAME, geometry(2), signal);
    expect(await makeLayouts(connector).of(NAME, signal)).toEqual([geometry(2), geometry(1)]);
  });

  it('that a server does not know it asks for again, but not each time', async () => {
    const inner = memory();
    let gets = 0;
    const connector = { ...inner, get: (...args: Parameters<typeof inner.get>) => (gets++, inner.get(...args)) };
    let nowMs = 0;
    const layouts = makeLayouts(connector, () => nowMs);
    for (let i = 0; i < 5; i++) expect(await layouts.of(NAME, signal)).toEqual([]);
    expect(gets).toBe(1);
    await makeLayouts(inner).learn(NAME, geometry(1), signal);
    nowMs = 10_000;
    expect(await layouts.of(NAME, signal)).toEqual([geometry(1)]);
    nowMs = 30_000;
    await layouts.of(NAME, signal);
    expect(gets).toBe(2);
  });

  it('are eight at most: the one put for longest makes room, so that nobody can keep others out', async () => {
    const connector = memory();
    const layouts = makeLayouts(connector);
    for (let layers = 1; layers <= 8; layers++) await layouts.learn(NAME, geometry(layers), signal);
    await layouts.learn(NAME, geometry(1), signal);
    await layouts.learn(NAME, geometry(9), signal);
    const newest = [9, 1, 8, 7, 6, 5, 4, 3];
    expect(await layouts.of(NAME, signal)).toEqual(newest.map(geometry));
    expect(await makeLayouts(connector).of(NAME, signal)).toEqual(newest.map(geometry));
  });

  it.each(['nonsense', '{}', '[1, null, {"order": "split"}, {"order": "bytes", "dtype": "u8", "layers": 1, "tokens": 5, "kvHeads": 1, "headDim": 1}]'])('in a record that somebody else wrote are left out: %s', async (text) => {
    const connector = memory();
    await makeLayouts(connector).learn(NAME, geometry(1), signal);
    const data = new Uint8Array(256).fill(0x20);
    data.set(Buffer.from(text));
    for await (const { key } of listStored(connector, 'chunks')) await connector.put(key, await encode({ layout: { order: 'bytes', dtype: 'u8', layers: 1, tokens: 1, kvHeads: 1, headDim: 256 }, data }, { key }));
    const layouts = makeLayouts(connector);
    expect(await layouts.of(NAME, signal)).toEqual([]);
    await layouts.learn(NAME, geometry(2), signal);
    expect(await makeLayouts(connector).of(NAME, signal)).toEqual([geometry(2)]);
  });

  it('are not known for good after the store failed once', async () => {
    const inner = memory();
    await makeLayouts(inner).learn(NAME, geometry(1), signal);
    let isDown = true;
    const connector = { ...inner, get: (...args: Parameters<typeof inner.get>) => (isDown ? Promise.reject(new Error('down')) : inner.get(...args)) };
    const layouts = makeLayouts(connector);
    await expect(layouts.of(NAME, signal)).rejects.toThrow('down');
    isDown = false;
    expect(await layouts.of(NAME, signal)).toEqual([geometry(1)]);
  });
});
