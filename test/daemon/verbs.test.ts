// Every verb over a Unix socket, in bodies and in segments.
import { once } from 'node:events';
import { existsSync, openSync, readdirSync, readFileSync, readSync, statSync, writeFileSync, writeSync, ftruncateSync, unlinkSync, closeSync } from 'node:fs';
import { connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openSharedFile } from '../../connectors/engine/daemon/shared-file.js';
import { memory } from '../../connectors/storage/memory.js';
import { packFrameHeader } from '../../connectors/engine/daemon/frames.js';
import { GEOMETRY, SPACE, tensorOf, testDaemon, TOKEN_BYTES, type TestDaemon } from './daemon.js';

let d: TestDaemon;

beforeEach(async () => {
  d = await testDaemon({ memory: { maxBytes: 2 ** 26 }, coding: { threads: 1 } });
});

afterEach(async () => {
  await d.stop();
});

const byIndex = <T extends { readonly index: number }>(frames: readonly T[]): readonly T[] => [...frames].sort((a, b) => a.index - b.index);

describe('bodies', () => {
  it('give back what was stored, and say what is missing or of another length', async () => {
    const space = await d.register();
    const tensors = { a1: tensorOf(40, 1), b2: tensorOf(64, 2) };
    await d.store(space, tensors);
    const asked = [
      { hash: 'a1', bytes: 40 * TOKEN_BYTES },
      { hash: 'c3', bytes: 40 * TOKEN_BYTES },
      { hash: 'b2', bytes: 64 * TOKEN_BYTES },
      { hash: 'a1', bytes: 39 * TOKEN_BYTES },
      { hash: 'a1', bytes: 40 * TOKEN_BYTES + 1 },
      { hash: 'a1', bytes: 0 },
    ];
    const { frames, summary } = await d.client.frames('/v1/fetch', { space, entries: asked });
    expect(byIndex(frames).map(({ status }) => status)).toEqual([0, 1, 0, 1, 1, 1]);
    expect(byIndex(frames)[0]?.payload.equals(tensors.a1)).toBe(true);
    expect(byIndex(frames)[2]?.payload.equals(tensors.b2)).toBe(true);
    expect(summary).toMatchObject({ hits: 2, misses: 4, failed: 0, raw_bytes: 104 * TOKEN_BYTES });
    expect(summary?.stored_bytes).toBeGreaterThan(0);
    expect(d.told.hit).toHaveLength(2);
    expect(d.told.miss.map(({ cause }) => cause).sort()).toEqual(['absent', 'other_length', 'other_length', 'other_length']);
  });

  it('answer an entry as soon as it is there, before a slow one', async () => {
    let release = (): void => undefined;
    const isHeld = new Promise<void>((resolve) => (release = resolve));
    const slow = await testDaemon({}, (files) => ({ ...files, get: async (key, options) => (key.endsWith('/bad') && (await isHeld), files.get(key, options)) }));
    try {
      const space = await slow.register();
      await slow.store(space, { a1: tensorOf(8, 1) });
      const entries = ['bad', 'a1'].map((hash) => ({ hash, bytes: 8 * TOKEN_BYTES }));
      const answer = slow.client.frames('/v1/fetch', { space, entries });
      await expect.poll(() => slow.told.hit.length).toBe(1);
      release();
      expect((await answer).frames.map(({ index, status }) => [index, status])).toEqual([[1, 0], [0, 1]]);
    } finally {
      release();
      await slow.stop();
    }
  });

  it('store a chunk that is there without coding it again', async () => {
    const space = await d.register();
    await d.store(space, { a1: tensorOf(40, 1) });
    await d.store(space, { a1: tensorOf(40, 1) });
    expect(d.told.stored.map(({ wasPresent }) => wasPresent)).toEqual([false, true]);
    // Of another length it is no use to who stores it, and replaced.
    await d.store(space, { a1: tensorOf(32, 1) });
    const { summary } = await d.client.frames('/v1/fetch', { space, entries: [{ hash: 'a1', bytes: 32 * TOKEN_BYTES }] });
    expect(summary).toMatchObject({ hits: 1 });
  });

  it('take an entry that no chunk can have as failed, and the others as they are', async () => {
    const space = await d.register();
    const payloads = [tensorOf(4, 1), new Uint8Array(100), tensorOf(5, 2)];
    const entries = payloads.map(({ byteLength }, i) => ({ hash: `a${i}`, bytes: byteLength }));
    const { frames, summary } = await d.client.storeFrames({ space, entries }, payloads);
    expect(byIndex(frames).map(({ status }) => status)).toEqual([0, 2, 0]);
    expect(JSON.parse(String(byIndex(frames)[1]?.payload))).toMatchObject({ code: 'KV_INVALID_INPUT' });
    expect(summary).toMatchObject({ hits: 2, failed: 1 });
  });

  it.each(['split', 'fused', 'lmcache_2ltd', 'vllm_cpu_pages', 'vllm_cpu_rows', 'sglang_page_first', 'sglang_layer_first'])('give the layers of a chunk in the order %s', async (order) => {
    const geometry = { ...GEOMETRY, order, layers: 4, block_tokens: 8 };
    const space = await d.register({ model: 'tiny', geometry });
    const halves = await d.register({ model: 'halves', geometry: { ...geometry, layers: 2 } });
    const [bytes, tokens] = [16 * 2 * TOKEN_BYTES, 16];
    // A chunk of 4 layers whose inner two are a chunk of their own: what a fetch of two layers has to give.
    const whole = new Uint8Array(bytes).map((_, i) => (i * 7) & 0x7f);
    await d.store(space, { a1: whole });
    const parts = await Promise.all(
      [[0, 2], [2, 4], [1, 3]].map(async (layers) => {
        const { frames } = await d.client.frames('/v1/fetch', { space, layers, entries: [{ hash: 'a1', bytes: tokens * TOKEN_BYTES }] });
        expect(frames.map(({ status }) => status)).toEqual([0]);
        return frames[0]?.payload ?? Buffer.alloc(0);
      }),
    );
    const layerBytes = bytes / 4;
    const isLayerFirst = ['split', 'fused', 'vllm_cpu_pages', 'vllm_cpu_rows'].includes(order);
    if (isLayerFirst) expect(parts[2]?.equals(whole.subarray(layerBytes, 3 * layerBytes))).toBe(true);
    // Each byte of the chunk is in one of its two halves.
    const sum = (part: Uint8Array): number => part.reduce((total, byte) => total + byte, 0);
    expect(sum(parts[0] ?? whole) + sum(parts[1] ?? whole)).toBe(sum(whole));
    // And as a chunk of two layers of the same order, the part comes back as itself.
    await d.store(halves, { a1: parts[2] ?? whole });
    const { frames } = await d.client.frames('/v1/fetch', { space: halves, layers: [0, 2], entries: [{ hash: 'a1', bytes: tokens * TOKEN_BYTES }] });
    expect(frames[0]?.payload.equals(parts[2] ?? whole)).toBe(true);
  });

  it('keep bytes of an unknown layout, and refuse layers of them', async () => {
    const space = await d.register({ model: 'opaque', geometry: { order: 'bytes', dtype: 'f16', layers: 1, kv_heads: 1, head_dim: 96 }, variant: 'pages of 96' });
    const tensor = tensorOf(7, 3, 192);
    await d.store(space, { a1: tensor });
    const { frames } = await d.client.frames('/v1/fetch', { space, entries: [{ hash: 'a1', bytes: tensor.length }] });
    expect(frames[0]?.payload.equals(tensor)).toBe(true);
    const refused = await d.client.frames('/v1/fetch', { space, layers: [0, 1], entries: [{ hash: 'a1', bytes: tensor.length }] });
    expect(refused).toMatchObject({ status: 400, json: { error: { code: 'KV_INVALID_INPUT' } } });
  });
});

describe('spaces', () => {
  it('that differ in dtype, salt, adapter, rank or variant never meet', async () => {
    const variants = [SPACE, { ...SPACE, geometry: { ...GEOMETRY, dtype: 'f16' } }, { ...SPACE, salt: 'tenant' }, { ...SPACE, adapter: 'lora' }, { ...SPACE, rank: { index: 0, of: 2 } }, { ...SPACE, variant: 'v2' }];
    const spaces = await Promise.all(variants.map((space) => d.register(space)));
    expect(new Set(spaces).size).toBe(variants.length);
    await d.store(spaces[0] ?? '', { a1: tensorOf(8, 1) });
    for (const space of spaces.slice(1)) {
      const { frames } = await d.client.frames('/v1/fetch', { space, entries: [{ hash: 'a1', bytes: 8 * TOKEN_BYTES }] });
      expect(frames.map(({ status }) => status)).toEqual([1]);
    }
  });

  it('that nobody registered are refused so that the client knows what to do', async () => {
    for (const path of ['/v1/lookup', '/v1/exists', '/v1/prefetch', '/v1/delete']) {
      expect(await d.client.json('POST', path, { space: 'f'.repeat(32), hashes: [] })).toMatchObject({ status: 409, json: { error: { code: 'KV_UNKNOWN_SPACE' } } });
    }
    expect(await d.client.frames('/v1/fetch', { space: 'x', entries: [] })).toMatchObject({ status: 409, json: { error: { code: 'KV_UNKNOWN_SPACE' } } });
    expect(await d.client.storeFrames({ space: 'x', entries: [] }, [])).toMatchObject({ status: 409, json: { error: { code: 'KV_UNKNOWN_SPACE' } } });
  });

  it('keep their chunks when stores are closed because many spaces were used', async () => {
    const spaces: string[] = [];
    for (let i = 0; i < 40; i++) {
      spaces.push(await d.register({ ...SPACE, salt: `tenant ${i}` }));
      await d.store(spaces[i] ?? '', { a1: tensorOf(2, i) });
    }
    for (const [i, space] of spaces.entries()) {
      const { frames } = await d.client.frames('/v1/fetch', { space, entries: [{ hash: 'a1', bytes: 2 * TOKEN_BYTES }] });
      expect(frames[0]?.payload.equals(tensorOf(2, i))).toBe(true);
    }
  });

  it('may have names whose characters come in two pieces', async () => {
    const named = { ...SPACE, model: 'modèle' };
    const json = Buffer.from(JSON.stringify(named));
    const cut = json.indexOf('è') + 1;
    const socket = connect(d.socket);
    socket.write('POST /v1/spaces HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n');
    for (const piece of [json.subarray(0, cut), json.subarray(cut)]) {
      socket.write(`${piece.length.toString(16)}\r\n`);
      socket.write(piece);
      socket.write('\r\n');
    }
    socket.write('0\r\n\r\n');
    const [answer] = (await once(socket, 'data')) as [Buffer];
    socket.destroy();
    expect(answer.toString()).toContain(await d.register(named));
  });
});

describe('lookups', () => {
  it('answer from memory, after a first look at the store', async () => {
    const space = await d.register();
    await d.store(space, { a1: tensorOf(4, 1), a2: tensorOf(4, 2) });
    const hashes = ['a1', 'a2', 'a3', 'a4'];
    expect((await d.client.json('POST', '/v1/lookup', { space, hashes })).json).toEqual({ hits: '11??', prefix: 2 });
    expect((await d.client.json('POST', '/v1/lookup', { space, hashes, wait_ms: 10_000 })).json).toEqual({ hits: '1100', prefix: 2 });
    await d.store(space, { a4: tensorOf(4, 4) });
    expect((await d.client.json('POST', '/v1/lookup', { space, hashes })).json).toEqual({ hits: '1101', prefix: 2 });
    await d.client.json('POST', '/v1/delete', { space, hashes: ['a1'] });
    expect((await d.client.json('POST', '/v1/lookup', { space, hashes })).json).toEqual({ hits: '0101', prefix: 0 });
    expect(d.told.lookup.at(-1)).toMatchObject({ asked: 4, hits: 2, unknown: 0 });
  });

  it('of 1,000 hashes ask the store once for each, and then no more', async () => {
    let asked = 0;
    const counting = await testDaemon({}, () => {
      const inner = memory();
      return { ...inner, has: (key, options) => (asked++, inner.has(key, options)) };
    });
    try {
      const space = await counting.register();
      const hashes = Array.from({ length: 1000 }, (_, i) => `b${i.toString(16).padStart(63, '0')}`);
      await Promise.all([1, 2, 3].map(() => counting.client.json('POST', '/v1/lookup', { space, hashes, wait_ms: 20_000 })));
      expect(asked).toBe(1000);
      const { json } = await counting.client.json('POST', '/v1/lookup', { space, hashes });
      expect(json).toEqual({ hits: '0'.repeat(1000), prefix: 0 });
      expect(asked).toBe(1000);
    } finally {
      await counting.stop();
    }
  });

  it('of a store that fails are misses that are told', async () => {
    const failing = await testDaemon({}, () => ({ ...memory(), has: () => Promise.reject(Object.assign(new Error('down'), { code: 'KV_CONNECTOR_UNAVAILABLE' })) }));
    try {
      const space = await failing.register();
      expect((await failing.client.json('POST', '/v1/lookup', { space, hashes: ['a1'], wait_ms: 10_000 })).json).toEqual({ hits: '0', prefix: 0 });
      expect((await failing.client.json('POST', '/v1/exists', { space, hashes: ['a1'] })).json).toEqual({ hits: '0', prefix: 0 });
      expect(failing.told.failed.map(({ verb, code }) => [verb, code])).toEqual([['lookup', 'KV_CONNECTOR_UNAVAILABLE'], ['exists', 'KV_CONNECTOR_UNAVAILABLE']]);
      expect((await failing.client.json('GET', '/ready')).status).toBe(503);
      expect((await failing.client.json('GET', '/health')).status).toBe(200);
    } finally {
      await failing.stop();
    }
  });

  it('exists asks the store itself, and gives up at the deadline', async () => {
    const space = await d.register();
    await d.store(space, { a1: tensorOf(4, 1) });
    expect((await d.client.json('POST', '/v1/exists', { space, hashes: ['a1', 'a2'] })).json).toEqual({ hits: '10', prefix: 1 });
    const stuck = await testDaemon({}, () => ({ ...memory(), has: (_, options) => new Promise((_resolve, reject) => options?.signal?.addEventListener('abort', () => reject(new Error('late')))) }));
    try {
      const other = await stuck.register();
      expect((await stuck.client.json('POST', '/v1/exists', { space: other, hashes: ['a1', 'a2'], deadline_ms: 30 })).json).toEqual({ hits: '00', prefix: 0 });
    } finally {
      await stuck.stop();
    }
  });
});

describe('contents', () => {
  it('are listed in pages, counted and deleted', async () => {
    const space = await d.register();
    await d.store(space, Object.fromEntries(['a5', 'a1', 'a4', 'a2', 'a3'].map((hash, i) => [hash, tensorOf(4, i)])));
    const hashes: string[] = [];
    let cursor = '';
    do {
      const { json } = await d.client.json('GET', `/v1/keys?space=${space}&limit=2${cursor}`);
      hashes.push(...(json.keys as { hash: string }[]).map(({ hash }) => hash));
      cursor = json.cursor === undefined ? '' : `&cursor=${String(json.cursor)}`;
    } while (cursor !== '');
    expect(hashes).toEqual(['a1', 'a2', 'a3', 'a4', 'a5']);
    const { json: usage } = await d.client.json('GET', '/v1/usage');
    expect(usage).toMatchObject({ objects: 5, spaces: [{ space, model: 'tiny', objects: 5 }] });
    expect(usage.stored_bytes).toBeGreaterThan(0);
    expect((await d.client.json('POST', '/v1/delete', { space, hashes: ['a1', 'a9', 'a2'] })).json).toEqual({ deleted: 2 });
    expect((await d.client.json('GET', '/v1/usage')).json).toMatchObject({ objects: 3 });
  });

  it('are brought into memory by a prefetch, and served from there when the store is gone', async () => {
    let isGone = false;
    const cut = await testDaemon({ memory: { maxBytes: 2 ** 26 } }, (files) => ({ ...files, get: (key, options) => (isGone ? Promise.reject(new Error('gone')) : files.get(key, options)) }));
    try {
      const space = await cut.register();
      await cut.store(space, { a1: tensorOf(4, 1) });
      cut.daemon.core.hot?.delete(`chunks/${space}/a1`); // of memory and store alike
      await cut.store(space, { a1: tensorOf(4, 1), a2: tensorOf(4, 2) });
      expect(await cut.client.json('POST', '/v1/prefetch', { space, hashes: ['a1', 'a2', 'a3'] })).toEqual({ status: 202, json: { accepted: 3 } });
      isGone = true;
      const { summary } = await cut.client.frames('/v1/fetch', { space, entries: ['a1', 'a2'].map((hash) => ({ hash, bytes: 4 * TOKEN_BYTES })) });
      expect(summary).toMatchObject({ hits: 2 });
    } finally {
      await cut.stop();
    }
  });

  it('are not prefetched where there is no memory for them', async () => {
    const bare = await testDaemon();
    try {
      const space = await bare.register();
      expect(await bare.client.json('POST', '/v1/prefetch', { space, hashes: ['a1'] })).toEqual({ status: 202, json: { accepted: 0 } });
    } finally {
      await bare.stop();
    }
  });
});

describe('damaged objects', () => {
  it('are a miss that says so, and are stored again', async () => {
    const bare = await testDaemon();
    try {
      const space = await bare.register();
      await bare.store(space, { a1: tensorOf(64, 1) });
      const path = readdirSync(`${bare.folder}/store`, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile() && /^[0-9a-f]{64}$/.test(entry.name)).map((entry) => `${entry.parentPath}/${entry.name}`)[0] ?? '';
      const bytes = readFileSync(path);
      const middle = Math.floor(bytes.length / 2 - 300);
      bytes[middle] = 0xff ^ (bytes[middle] ?? 0);
      writeFileSync(path, bytes);
      const fetch = (): ReturnType<TestDaemon['client']['frames']> => bare.client.frames('/v1/fetch', { space, entries: [{ hash: 'a1', bytes: 64 * TOKEN_BYTES }] });
      expect((await fetch()).frames.map(({ status }) => status)).toEqual([1]);
      expect(bare.told.miss).toMatchObject([{ cause: 'damaged' }]);
      expect((await bare.client.json('POST', '/v1/lookup', { space, hashes: ['a1'] })).json).toMatchObject({ hits: '0' });
      await bare.store(space, { a1: tensorOf(64, 1) });
      expect((await fetch()).frames[0]?.payload.equals(tensorOf(64, 1))).toBe(true);
    } finally {
      await bare.stop();
    }
  });
});

describe('segments', () => {
  interface Segment {
    readonly segment: string;
    readonly generation: number;
    readonly path: string;
  }
  const make = async (request: unknown): Promise<Segment> => {
    const { status, json } = await d.client.json('POST', '/v1/segments', request);
    expect(status, JSON.stringify(json)).toBe(200);
    return json as unknown as Segment;
  };
  const range = ({ segment, generation }: Segment, offset: number): object => ({ segment, generation, offset });
  const bytes = 40 * TOKEN_BYTES;

  it('of the daemon carry a chunk there and back', async () => {
    const space = await d.register();
    const segment = await make({ bytes: 3 * bytes });
    expect(statSync(segment.path).mode & 0o777).toBe(0o600);
    const file = openSync(segment.path, 'r+');
    writeSync(file, tensorOf(40, 1), 0, bytes, bytes);
    const stored = await d.client.frames('/v1/store', { space, entries: [{ hash: 'a1', bytes, start: 40, ...range(segment, bytes) }] });
    expect(stored.summary).toMatchObject({ hits: 1 });
    const { frames } = await d.client.frames('/v1/fetch', { space, entries: [{ hash: 'a1', bytes, ...range(segment, 2 * bytes) }, { hash: 'a2', bytes, ...range(segment, 0) }] });
    expect(byIndex(frames)).toMatchObject([{ status: 0, payload: Buffer.alloc(0) }, { status: 1 }]);
    const back = Buffer.alloc(bytes);
    readSync(file, back, 0, bytes, 2 * bytes);
    expect(back.equals(tensorOf(40, 1))).toBe(true);
    const first = Buffer.alloc(bytes, 1);
    readSync(file, first, 0, bytes, 0);
    expect(first.every((byte) => byte === 0)).toBe(true); // a miss left it alone
    closeSync(file);
    expect((await d.client.json('DELETE', `/v1/segments/${segment.segment}`)).status).toBe(200);
    expect(existsSync(segment.path)).toBe(false);
    await expect.poll(() => readFileSync('/proc/self/maps', 'utf8').includes(segment.path)).toBe(false);
  });

  it('of the client are mapped where they are, and left there', async () => {
    const space = await d.register();
    const path = `/dev/shm/kvreel-test-${process.pid}`;
    writeFileSync(path, tensorOf(40, 5), { mode: 0o600 });
    try {
      const segment = await make({ path });
      expect((await d.client.frames('/v1/store', { space, entries: [{ hash: 'a1', bytes, ...range(segment, 0) }] })).summary).toMatchObject({ hits: 1 });
      const { frames } = await d.client.frames('/v1/fetch', { space, entries: [{ hash: 'a1', bytes }] });
      expect(frames[0]?.payload.equals(tensorOf(40, 5))).toBe(true);
      // Made shorter by the client: touching what is gone would end the daemon.
      const file = openSync(path, 'r+');
      ftruncateSync(file, 10);
      closeSync(file);
      const { frames: stale } = await d.client.frames('/v1/fetch', { space, entries: [{ hash: 'a1', bytes, ...range(segment, 0) }] });
      expect(JSON.parse(String(stale[0]?.payload))).toMatchObject({ code: 'KV_STALE_SEGMENT' });
      await d.client.json('DELETE', `/v1/segments/${segment.segment}`);
      expect(existsSync(path)).toBe(true);
    } finally {
      unlinkSync(path);
    }
  });

  it('that are stale, or too small, fail for the entry alone', async () => {
    const space = await d.register();
    await d.store(space, { a1: tensorOf(40, 1) });
    const segment = await make({ bytes });
    const entries = [
      { hash: 'a1', bytes, ...range(segment, 0) },
      { hash: 'a1', bytes, ...range({ ...segment, generation: segment.generation + 1 }, 0) },
      { hash: 'a1', bytes, ...range({ ...segment, segment: 'ffff' }, 0) },
      { hash: 'a1', bytes, ...range(segment, 1) },
      { hash: 'a1', bytes, ...range(segment, Number.MAX_SAFE_INTEGER) },
    ];
    const { frames } = await d.client.frames('/v1/fetch', { space, entries });
    expect(byIndex(frames).map(({ status }) => status)).toEqual([0, 2, 2, 2, 2]);
    const codes = byIndex(frames).slice(1).map(({ payload }) => (JSON.parse(String(payload)) as { code: string }).code);
    expect(codes).toEqual(['KV_STALE_SEGMENT', 'KV_STALE_SEGMENT', 'KV_INVALID_INPUT', 'KV_INVALID_INPUT']);
  });

  it.each(['/dev/shm/../etc/passwd', '/etc/passwd', '/dev/shm/none', '/dev/shm/', '/dev/shm/..', '/dev/null', 'x'])('cannot be %s', async (path) => {
    expect(await d.client.json('POST', '/v1/segments', { path })).toMatchObject({ status: 400, json: { error: { code: 'KV_INVALID_INPUT' } } });
  });

  it('are not written to after the answer, also where a deadline cut the work off', async () => {
    const space = await d.register();
    const tokens = 32_768;
    const chunk = tokens * TOKEN_BYTES;
    await d.store(space, { a1: tensorOf(tokens, 1), a2: tensorOf(tokens, 2) });
    const segment = await make({ bytes: 2 * chunk });
    const shared = openSharedFile(segment.path);
    const [first, second] = [await shared.range(0, chunk), await shared.range(chunk, chunk)];
    let cut = 0;
    for (let i = 0; i < 30; i++) {
      first.fill(0);
      const { frames } = await d.client.frames('/v1/fetch', { space, deadline_ms: 1 + (i % 6), entries: [{ hash: i % 2 === 0 ? 'a1' : 'a2', bytes: chunk, ...range(segment, 0) }] });
      if (frames[0]?.status !== 0) cut++;
      const then = Uint8Array.from(first);
      // As long as work that was not ended would take.
      const { summary } = await d.client.frames('/v1/fetch', { space, entries: [{ hash: 'a2', bytes: chunk, ...range(segment, chunk) }] });
      expect(summary).toMatchObject({ hits: 1 });
      expect(Buffer.compare(first, then)).toBe(0);
    }
    expect(cut).toBeGreaterThan(0);
    expect(Buffer.compare(second, tensorOf(tokens, 2))).toBe(0);
    shared.close();
  });

  it('end with their lease, which calls and renewals begin again', async () => {
    const brief = await testDaemon({ leaseMs: 200 });
    try {
      const { json } = await brief.client.json('POST', '/v1/segments', { bytes });
      const { segment, path } = json as unknown as Segment;
      for (let i = 0; i < 4; i++) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        expect((await brief.client.json('POST', `/v1/segments/${segment}/renew`)).status).toBe(200);
      }
      await expect.poll(() => existsSync(path)).toBe(false);
      expect(await brief.client.json('POST', `/v1/segments/${segment}/renew`)).toMatchObject({ status: 404, json: { error: { code: 'KV_STALE_SEGMENT' } } });
    } finally {
      await brief.stop();
    }
  });

  it('are removed when a daemon stops, and by the next one where it was killed', async () => {
    const other = await testDaemon();
    const { json } = await other.client.json('POST', '/v1/segments', { bytes });
    const path = String(json.path);
    expect(existsSync(path)).toBe(true);
    const next = await testDaemon(); // leaves the segment of a daemon that lives
    expect(existsSync(path)).toBe(true);
    await other.stop();
    expect(existsSync(path)).toBe(false);
    writeFileSync(`/dev/shm/kvreel-${'0'.repeat(32)}`, 'left');
    const third = await testDaemon();
    expect(existsSync(`/dev/shm/kvreel-${'0'.repeat(32)}`)).toBe(false);
    await Promise.all([next.stop(), third.stop()]);
  });
});

it('frames are as the protocol says, byte by byte', () => {
  expect(Buffer.from(packFrameHeader({ index: 1, status: 2, bytes: 0x1_0000_0003 })).toString('hex')).toBe('01000000' + '02000000' + '0300000001000000');
});
