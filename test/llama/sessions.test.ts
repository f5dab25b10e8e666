// What holds for every state, also for those that the models of the live tests do not make. The sequence here is a value, not llama.cpp.
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { deleteSession, loadSession, saveSession, type LlamaSequence, type SaveSessionOptions } from '../../connectors/engine/llama.js';
import { encrypted, type EncryptionKeys } from '../../connectors/storage/encrypted.js';
import { memory } from '../../connectors/storage/memory.js';
import { counting, type Counted } from './counting.js';
import { fileSequence } from './file-sequence.js';
import { anyState, stateBytes, type SectionParts } from './state-bytes.js';

const folder = mkdtempSync(join(tmpdir(), 'kvreel-sessions-'));
const modelPath = join(folder, 'model.gguf');
writeFileSync(modelPath, 'weights');
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let connector: Counted;
let place: SaveSessionOptions;
beforeEach(() => {
  connector = counting(memory());
  place = { connector, name: 'chat', modelPath, chunkTokens: 16 };
});

const ROW = { type: 1, rowBytes: 8 };
const cache = (cells: number): SectionParts => ({ positions: Array.from({ length: cells }, (_, i) => i), layers: 2, key: ROW, value: ROW });
const someTokens = (count: number): number[] => Array.from({ length: count }, (_, i) => 7 * i);
/** A state of which a longer one starts with the same rows, of finite halves. */
function growing(cells: number): Uint8Array {
  const bytes = stateBytes(someTokens(cells), [cache(cells)]);
  const rows = bytes.subarray(bytes.length - 4 * (12 + 8 * cells));
  for (let plane = 0; plane < 4; plane++) {
    for (let i = 0; i < 8 * cells; i++) rows[plane * (12 + 8 * cells) + 12 + i] = (37 * plane + 11 * i) & (i % 2 === 0 ? 0xff : 0x3b);
  }
  return bytes;
}

async function restored(options: Partial<SaveSessionOptions> = {}): Promise<Uint8Array> {
  const fresh = fileSequence(new Uint8Array(0));
  const { quality: _, chunkTokens: __, ...load } = { ...place, ...options };
  await loadSession(fresh, load);
  return fresh.state;
}

async function keys(): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of connector.list('')) found.push(key);
  return found.sort();
}

describe('a state', () => {
  it('comes back to the last byte, whatever its caches are', async () => {
    await fc.assert(
      fc.asyncProperty(anyState, async ({ tokens, sections, seed }) => {
        const bytes = stateBytes(tokens, sections, seed);
        const saved = await saveSession(fileSequence(bytes), place);
        expect(saved).not.toHaveProperty('notUnderstood');
        expect(Buffer.compare(await restored(), bytes)).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  it('that is not understood comes back to the last byte too, and save says why', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 256, maxLength: 3000 }), async (bytes) => {
        const saved = await saveSession(fileSequence(bytes), place);
        expect(saved.notUnderstood).toContain('not understood');
        expect(Buffer.compare(await restored(), bytes)).toBe(0);
      }),
      { numRuns: 30 },
    );
  });

  it('with V transposed in a type of blocks is kept as bytes', async () => {
    const bytes = stateBytes(someTokens(20), [{ ...cache(20), value: { type: 8, rowBytes: 68 }, transposedBytes: 34 }]);
    expect((await saveSession(fileSequence(bytes), place)).notUnderstood).toContain('transposed');
    expect(Buffer.compare(await restored(), bytes)).toBe(0);
  });

  it('that is kept as bytes is refused at a lossy quality', async () => {
    const save = saveSession(fileSequence(new Uint8Array(300)), { ...place, quality: 'lossy' });
    await expect(save).rejects.toMatchObject({ code: 'KV_UNSUPPORTED', message: expect.stringContaining('quality exact') });
    expect(await keys()).toEqual([]);
  });
});

describe('a second turn', () => {
  it('puts the chunks that are new, replaces the tail and leaves the others', async () => {
    await saveSession(fileSequence(growing(40)), place);
    const before = await keys();
    connector.puts.length = 0;
    const saved = await saveSession(fileSequence(growing(60)), place);
    // 0-15 and 16-31 are there; 32-47 grew, 48-59 is new.
    expect(saved).toMatchObject({ chunks: 4, newChunks: 2 });
    expect(connector.puts).toHaveLength(3);
    expect(connector.puts.at(-1)?.key).toBe('llama/chat/session');
    expect(saved.newBytes).toBe(connector.puts.reduce((sum, { bytes }) => sum + bytes, 0));
    const after = await keys();
    expect(after).toHaveLength(5);
    expect(after.filter((key) => before.includes(key))).toHaveLength(3);
    expect(Buffer.compare(await restored(), growing(60))).toBe(0);
  });

  it('that changed nothing puts the manifest alone', async () => {
    await saveSession(fileSequence(growing(40)), place);
    expect(await saveSession(fileSequence(growing(40)), place)).toMatchObject({ chunks: 3, newChunks: 0 });
  });

  it('finds rows again that moved to other cells', async () => {
    const rows = (order: readonly number[]): Uint8Array => {
      const bytes = stateBytes(someTokens(64), [{ ...cache(0), positions: order }]);
      const plane = 12 + 8 * order.length;
      const start = bytes.length - 4 * plane;
      for (let at = 0; at < 4; at++) order.forEach((position, cell) => bytes.fill(position + at, start + at * plane + 12 + 8 * cell, start + at * plane + 12 + 8 * (cell + 1)));
      return bytes;
    };
    const inOrder = [...Array(64).keys()];
    await saveSession(fileSequence(rows(inOrder)), place);
    const moved = [...inOrder.slice(40), ...inOrder.slice(0, 40)];
    expect(await saveSession(fileSequence(rows(moved)), place)).toMatchObject({ chunks: 4, newChunks: 0 });
    expect(Buffer.compare(await restored(), rows(moved))).toBe(0);
  });

  it('puts a chunk again that the storage has lost', async () => {
    await saveSession(fileSequence(growing(40)), place);
    const [lost = ''] = (await keys()).filter((key) => key !== 'llama/chat/session');
    await connector.delete(lost);
    expect(await saveSession(fileSequence(growing(40)), place)).toMatchObject({ newChunks: 1 });
    expect(Buffer.compare(await restored(), growing(40))).toBe(0);
  });

  it('that fails leaves the session as it was', async () => {
    await saveSession(fileSequence(growing(40)), place);
    let puts = 0;
    const failing = { ...connector, put: async (...args: Parameters<Counted['put']>) => (++puts === 2 ? Promise.reject(new Error('disk gone')) : connector.put(...args)) };
    await expect(saveSession(fileSequence(growing(90)), { ...place, connector: failing })).rejects.toThrow('disk gone');
    expect(Buffer.compare(await restored(), growing(40))).toBe(0);
  });

  it('of another rung stores all of it anew', async () => {
    await saveSession(fileSequence(growing(40)), place);
    expect(await saveSession(fileSequence(growing(40)), { ...place, quality: 'near' })).toMatchObject({ chunks: 3, newChunks: 3 });
    expect(await keys()).toHaveLength(4);
    expect(await loadSession(fileSequence(new Uint8Array(0)), { connector, name: 'chat', modelPath })).toMatchObject({ rung: 'q7' });
  });
});

describe('a session is refused, and the sequence left as it was,', () => {
  const own = growing(10);
  let sequence = fileSequence(own);

  async function refusal(changed: LlamaSequence = sequence, options: object = {}): Promise<Error & { code?: string }> {
    const error = await loadSession(changed, { connector, name: 'chat', modelPath, ...options }).then(
      () => new Error('it was loaded'),
      (reason: Error) => reason,
    );
    expect(Buffer.compare((changed as typeof sequence).state, own)).toBe(0);
    return error;
  }

  beforeEach(async () => {
    sequence = fileSequence(own);
    await saveSession(fileSequence(growing(40)), place);
  });

  it.each([
    ['KV types', { context: { kvCacheKeyType: 8 } }, 'keyType 1, here 8'],
    ['V type', { context: { kvCacheValueType: 8 } }, 'valueType'],
    ['flash attention', { context: { flashAttention: false } }, 'flashAttention "auto", here "false"'],
    ['number of sequences', { context: { totalSequences: 2 } }, 'sequences'],
    ['release of llama.cpp', { model: { llama: { llamaCppRelease: { repo: 'ggml-org/llama.cpp', release: 'v0.6.0' } } } }, 'llamaCpp'],
    ['stretch of RoPE', { model: { fileInfo: { architectureMetadata: { rope: { scaling: { original_context_length: 64 } } } } } }, 'isStretched'],
    ['room', { contextSize: 39 }, 'room for 39'],
  ])('by a context of another %s', async (_, changes, message) => {
    const { code, message: said } = await refusal(fileSequence(own, changes));
    expect(code).toBe('KV_GEOMETRY_MISMATCH');
    expect(said).toContain(message);
  });

  it('with another adapter', async () => expect(await refusal(sequence, { adapter: 'lora' })).toMatchObject({ code: 'KV_GEOMETRY_MISMATCH', message: expect.stringContaining('adapter') }));

  it('with another model file of the same name', async () => {
    const other = mkdtempSync(join(folder, 'other-'));
    writeFileSync(join(other, 'model.gguf'), 'weightz');
    const { code, message } = await refusal(sequence, { modelPath: join(other, 'model.gguf') });
    expect(code).toBe('KV_GEOMETRY_MISMATCH');
    expect(message).toContain('another model file');
  });

  it('with a chunk missing', async () => {
    const [chunk = ''] = await keys();
    await connector.delete(chunk);
    expect(await refusal()).toMatchObject({ code: 'KV_CORRUPT_OBJECT', message: expect.stringContaining('gone') });
  });

  it.each([0, 1, 2, 3])('with a damaged object (%d), which the next save puts again', async (index) => {
    const key = (await keys())[index] ?? '';
    const value = new Uint8Array((await connector.get(key)) ?? []);
    value[value.length - 20] = (value[value.length - 20] ?? 0) ^ 1;
    await connector.put(key, value);
    expect(await refusal()).toMatchObject({ code: 'KV_CORRUPT_OBJECT' });
    await saveSession(fileSequence(growing(40)), place);
    expect(Buffer.compare(await restored(), growing(40))).toBe(0);
  });

  it('with the objects of two chunks in each other’s place', async () => {
    const [first = '', second = ''] = await keys();
    const [a, b] = [new Uint8Array((await connector.get(first)) ?? []), new Uint8Array((await connector.get(second)) ?? [])];
    await connector.put(first, b);
    await connector.put(second, a);
    expect(await refusal()).toMatchObject({ code: 'KV_GEOMETRY_MISMATCH' });
  });

  it('with the manifest of another session', async () => {
    await saveSession(fileSequence(growing(30)), { ...place, name: 'other' });
    await connector.put('llama/chat/session', (await connector.get('llama/other/session')) ?? new Uint8Array(0));
    expect(await refusal()).toMatchObject({ code: 'KV_CORRUPT_OBJECT', message: expect.stringContaining('that of other') });
  });

  it('that llama.cpp does not take', async () => {
    expect(await refusal(fileSequence(own, { refuses: true }))).toMatchObject({ code: 'KV_GEOMETRY_MISMATCH', message: expect.stringContaining('llama.cpp does not take') });
  });

  it('when it is called off', async () => {
    expect(await refusal(sequence, { signal: AbortSignal.abort(new Error('enough')) })).toMatchObject({ message: 'enough' });
  });
});

describe('an encrypted session', () => {
  const keyOf = (fill: number): EncryptionKeys => ({ keys: { k: new Uint8Array(32).fill(fill) }, writeKeyId: 'k' });

  it('comes back with its key and no other, and shows nothing', async () => {
    const bytes = growing(40);
    await saveSession(fileSequence(bytes), { ...place, connector: encrypted(connector, keyOf(1)), metadata: { history: 'secret words' } });
    expect(Buffer.compare(await restored({ connector: encrypted(connector, keyOf(1)) }), bytes)).toBe(0);
    await expect(restored({ connector: encrypted(connector, keyOf(2)) })).rejects.toMatchObject({ code: 'KV_UNSUPPORTED', message: expect.stringContaining('another key') });
    await expect(restored()).rejects.toMatchObject({ code: 'KV_CORRUPT_OBJECT' });
    for (const key of await keys()) expect(Buffer.from((await connector.get(key)) ?? []).includes('secret')).toBe(false);
  });
});

describe('sessions', () => {
  it('give back the text that they were saved with; a name without one is a miss', async () => {
    await saveSession(fileSequence(growing(5)), { ...place, metadata: { history: '[…]' } });
    const load = { connector, name: 'chat', modelPath };
    expect(await loadSession(fileSequence(new Uint8Array(0)), load)).toEqual({ tokens: 5, stateBytes: growing(5).length, rung: 'exact', metadata: { history: '[…]' } });
    expect(await loadSession(fileSequence(new Uint8Array(0)), { ...load, name: 'nobody' })).toBeUndefined();
  });

  it('of several names stand apart, and each can be deleted', async () => {
    await saveSession(fileSequence(growing(40)), place);
    await saveSession(fileSequence(growing(40)), { ...place, name: 'chat-2' });
    expect(await deleteSession({ connector, name: 'chat' })).toBe(true);
    expect(await deleteSession({ connector, name: 'chat' })).toBe(false);
    expect((await keys()).every((key) => key.startsWith('llama/chat-2/'))).toBe(true);
    expect(Buffer.compare(await restored({ name: 'chat-2' }), growing(40))).toBe(0);
  });

  it('leave no temporary file, whether they succeed or fail', async () => {
    const left = (): string[] => ['/dev/shm', tmpdir()].flatMap((path) => readdirSync(path).filter((name) => name.startsWith('kvreel-llama-') && !name.includes('test')));
    const before = left();
    await saveSession(fileSequence(growing(40)), place);
    await restored();
    const failing = { ...fileSequence(growing(40)), saveStateToFile: () => Promise.reject(new Error('no state')) };
    await expect(saveSession(failing, place)).rejects.toThrow('no state');
    expect(left()).toEqual(before);
  });

  it.each([
    [{ name: 'a/b' }, TypeError],
    [{ name: '' }, TypeError],
    [{ connector: {} }, TypeError],
    [{ modelPath: '/models/other.gguf' }, TypeError],
    [{ modelDigest: 'abc' }, TypeError],
    [{ quality: 'good' }, TypeError],
    [{ chunkTokens: 8 }, RangeError],
    [{ metadata: { a: 1 } }, TypeError],
    [{ chunks: 4 }, TypeError],
  ])('are not saved with %j', async (wrong, kind) => {
    await expect(saveSession(fileSequence(growing(5)), { ...place, ...wrong } as SaveSessionOptions)).rejects.toBeInstanceOf(kind);
  });

  it('of an empty sequence are not saved', async () => {
    await expect(saveSession(fileSequence(new Uint8Array(0)), place)).rejects.toBeInstanceOf(RangeError);
  });
});
