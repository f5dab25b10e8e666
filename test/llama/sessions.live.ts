// Sessions of the real llama.cpp: what is loaded goes on with the same tokens, from the same bytes.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { loadSession, saveSession, type SavedSession } from '../../connectors/engine/llama.js';
import { encrypted } from '../../connectors/storage/encrypted.js';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { memory } from '../../connectors/storage/memory.js';
import type { ChildTask } from './child.js';
import { counting } from './counting.js';
import { greedy, startEngine, type Context, type Engine, type Model, type Sequence } from './engine.js';

const ROOT = join(import.meta.dirname, '../..');
const GREEDY = 16;
/** One: llama.cpp's threads wait for each other in loops, which takes minutes where others use the processors too. */
const THREADS = 1;
/** The last one is evaluated after the save: what comes next must not be in the state. */
const PROMPT_TOKENS = 300;

let folder = '';
let engine: Engine;
let smollm2: Model;
let gemma: Model;
let prompt: number[] = [];
let contexts: Context[] = [];

/** What the shared session of 299 tokens is and goes on with. */
let store = '';
let state: Buffer;
let saved: SavedSession;
let next: number[] = [];
let prefillMs = 0;
let saveMs = 0;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kvreel-llama-test-'));
  store = join(folder, 'store');
  engine = await startEngine();
  smollm2 = await engine.load(engine.smollm2);
  gemma = await engine.load(engine.gemma);
  prompt = tokensOf(smollm2, PROMPT_TOKENS);

  const sequence = await open(smollm2);
  prefillMs = await timed(() => sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, -1)));
  state = await stateOf(sequence);
  saveMs = await timed(async () => (saved = await saveSession(sequence, place())));
  next = await greedy(sequence, prompt.at(-1) ?? 0, GREEDY);
  await closeContexts();
});

afterEach(closeContexts);

afterAll(async () => {
  await engine?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function closeContexts(): Promise<void> {
  for (const context of contexts) await context.dispose();
  contexts = [];
}

function tokensOf(model: Model, count: number): number[] {
  return model.tokenize(readFileSync(join(ROOT, 'LICENSE'), 'utf8')).slice(0, count);
}

async function open(model: Model, options: Readonly<Record<string, unknown>> = {}): Promise<Sequence> {
  const context = await model.createContext({ contextSize: 1024, threads: THREADS, ...options });
  contexts.push(context);
  return context.getSequence();
}

function place(connector = filesystem({ path: store }), name = 'chat') {
  return { connector, name, modelPath: engine.smollm2 };
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}

async function stateOf(sequence: Sequence): Promise<Buffer> {
  const path = join(folder, 'state');
  await sequence.saveStateToFile(path);
  return readFileSync(path);
}

// Not toEqual, which takes minutes for megabytes.
function expectSame(actual: Uint8Array, expected: Uint8Array): void {
  expect(actual.length).toBe(expected.length);
  expect(Buffer.compare(actual, expected)).toBe(0);
}

function start(task: Partial<ChildTask>): ChildProcess {
  const whole = { path: store, name: 'chat', then: 'generate', token: prompt.at(-1), count: GREEDY, ...task };
  return spawn(process.execPath, [join(ROOT, 'node_modules/vite-node/vite-node.mjs'), join(import.meta.dirname, 'child.ts'), JSON.stringify(whole)], { stdio: ['ignore', 'pipe', 'inherit'] });
}

async function answerOf(child: ChildProcess): Promise<unknown> {
  if (child.stdout === null) throw new Error('a child without output');
  for await (const line of createInterface(child.stdout)) if (line.startsWith('{')) return JSON.parse(line);
  throw new Error('the child ended without an answer');
}

describe('a session', () => {
  it('goes on in a fresh context: the state is the same bytes, the next tokens are the same', async () => {
    const fresh = await open(smollm2);
    const loadMs = await timed(() => loadSession(fresh, place()));
    expect(fresh.contextTokens).toEqual(prompt.slice(0, -1));
    expectSame(await stateOf(fresh), state);
    expect(await greedy(fresh, prompt.at(-1) ?? 0, GREEDY)).toEqual(next);
    const ratio = saved.stateBytes / saved.storedBytes;
    console.log(
      `${saved.tokens} tokens: state ${saved.stateBytes} bytes, stored ${saved.storedBytes} (${ratio.toFixed(2)}x); prefill ${prefillMs.toFixed(0)} ms, first save ${saveMs.toFixed(0)} ms with the digest of the model file, load ${loadMs.toFixed(0)} ms`,
    );
    expect(loadMs).toBeLessThan(prefillMs);
  });

  it('goes on in a fresh process', async () => {
    expect(await answerOf(start({}))).toEqual({ loaded: PROMPT_TOKENS - 1, tokens: next });
  });

  it('stores of a second turn what is new', async () => {
    const connector = counting(filesystem({ path: store }));
    const sequence = await open(smollm2);
    const turns = { ...place(connector, 'turns'), chunkTokens: 64 };
    const { chunkTokens: _, ...load } = turns;
    await loadSession(sequence, place());
    const first = await saveSession(sequence, turns);
    expect(first).toMatchObject({ chunks: 5, newChunks: 5 });

    await sequence.evaluateWithoutGeneratingNewTokens(next);
    connector.puts.length = 0;
    let second: SavedSession | undefined;
    const secondMs = await timed(async () => (second = await saveSession(sequence, turns)));
    // 299 tokens were four chunks and a tail of 43; 315 are four chunks and a tail of 59.
    expect(second).toMatchObject({ tokens: 315, chunks: 5, newChunks: 1 });
    expect(connector.puts).toHaveLength(2);
    expect(second?.newBytes).toBeLessThan(first.newBytes / 4);
    console.log(`second turn of 16 tokens: ${second?.newBytes} bytes in ${secondMs.toFixed(0)} ms`);

    const grown = await stateOf(sequence);
    const fresh = await open(smollm2);
    await loadSession(fresh, load);
    expectSame(await stateOf(fresh), grown);
  });

  it('is kept encrypted', async () => {
    const inner = memory();
    const keys = (fill: number) => ({ keys: { own: new Uint8Array(32).fill(fill) }, writeKeyId: 'own' });
    const sequence = await open(smollm2);
    await loadSession(sequence, place());
    await saveSession(sequence, place(encrypted(inner, keys(1))));
    const fresh = await open(smollm2);
    await expect(loadSession(fresh, place(encrypted(inner, keys(2))))).rejects.toMatchObject({ code: 'KV_UNSUPPORTED' });
    expect(fresh.nextTokenIndex).toBe(0);
    await loadSession(fresh, place(encrypted(inner, keys(1))));
    expectSame(await stateOf(fresh), state);
  });

  it('that is being saved by a process that is killed stays as it was, and no temporary file is left', async () => {
    const names = (): string[] => ['/dev/shm', tmpdir()].flatMap((path) => readdirSync(path).filter((name) => name.startsWith('kvreel-llama-')));
    const before = names();
    const child = start({ then: 'hang' });
    expect(await answerOf(child)).toEqual({ hangs: true });
    child.kill('SIGKILL');
    await once(child, 'close');
    expect(names()).toEqual(before);
    const fresh = await open(smollm2);
    await loadSession(fresh, place());
    expectSame(await stateOf(fresh), state);
  });

  it('of a lossy rung is smaller and goes on', async () => {
    const connector = memory();
    const sequence = await open(smollm2);
    await loadSession(sequence, place());
    const lossy = await saveSession(sequence, { ...place(connector), quality: 'near' });
    expect(lossy.storedBytes).toBeLessThan(0.6 * saved.storedBytes);
    const fresh = await open(smollm2);
    expect(await loadSession(fresh, place(connector))).toMatchObject({ rung: 'q7', tokens: PROMPT_TOKENS - 1 });
    expect(await greedy(fresh, prompt.at(-1) ?? 0, 1)).toEqual(next.slice(0, 1));
  });
});

describe('a sequence that holds tokens keeps them', () => {
  const held = 20;

  async function refusedBy(sequence: Sequence, options: ReturnType<typeof place>): Promise<unknown> {
    await sequence.evaluateWithoutGeneratingNewTokens(sequence.contextTokens.length > 0 ? [] : prompt.slice(0, held));
    const before = await stateOf(sequence);
    const error: unknown = await loadSession(sequence, options).catch((reason: unknown) => reason);
    expect(sequence.contextTokens).toHaveLength(held);
    expectSame(await stateOf(sequence), before);
    await expect(greedy(sequence, prompt[held] ?? 0, 2)).resolves.toHaveLength(2);
    return error;
  }

  it.each([
    ['K of another type', { experimentalKvCacheKeyType: 'F32' }, 'keyType'],
    ['V of another type', { flashAttention: true, experimentalKvCacheValueType: 'Q8_0' }, 'valueType'],
    ['no flash attention', { flashAttention: false }, 'flashAttention'],
    ['two sequences', { sequences: 2 }, 'sequences'],
    ['less room', { contextSize: 256 }, 'room for 256'],
  ])('where the context has %s', async (_, options, message) => {
    expect(await refusedBy(await open(smollm2, options), place())).toMatchObject({ code: 'KV_GEOMETRY_MISMATCH', message: expect.stringContaining(message) });
  });

  it('where the model is another', async () => {
    expect(await refusedBy(await open(gemma), { ...place(), modelPath: engine.gemma })).toMatchObject({ code: 'KV_GEOMETRY_MISMATCH', message: expect.stringContaining('another model file') });
  });

  it('where llama.cpp itself does not take the state', async () => {
    const sequence = await open(smollm2, { flashAttention: false });
    // Says that it is like the one that saved, which node-llama-cpp could say as well where `auto` means something else on another machine.
    const context = new Proxy(sequence.context, { get: (target, field) => (field === 'flashAttention' ? 'auto' : Reflect.get(target, field, target)) });
    const disguised = new Proxy(sequence, { get: (target, field) => (field === 'context' ? context : bound(target, field)) });
    expect(await refusedBy(disguised, place())).toMatchObject({ code: 'KV_GEOMETRY_MISMATCH', message: expect.stringContaining('llama.cpp does not take') });
  });

  it('where a chunk is damaged or gone', async () => {
    const connector = memory();
    const saving = await open(smollm2);
    await loadSession(saving, place());
    await saveSession(saving, place(connector));
    const sequence = await open(smollm2);
    for await (const { key } of connector.list('llama/chat/')) {
      if (key.endsWith('/session')) continue;
      const object = new Uint8Array((await connector.get(key)) ?? []);
      object[object.length >> 1] = (object[object.length >> 1] ?? 0) ^ 4;
      await connector.put(key, object);
      break;
    }
    expect(await refusedBy(sequence, place(connector))).toMatchObject({ code: 'KV_CORRUPT_OBJECT', message: expect.stringContaining('damaged') });
    await sequence.eraseContextTokenRanges([{ start: held, end: 1024 }]);
    // The damaged object was deleted, so that the next save puts it again.
    expect(await refusedBy(sequence, place(connector))).toMatchObject({ code: 'KV_CORRUPT_OBJECT', message: expect.stringContaining('gone') });
    expect(await saveSession(saving, place(connector))).toMatchObject({ newChunks: 1 });
  });
});

describe('every form of a state comes back to the last byte:', () => {
  const tokens = 40;

  async function comesBack(model: Model, modelPath: string, options: Readonly<Record<string, unknown>>, work?: (sequence: Sequence) => Promise<void>): Promise<SavedSession> {
    const prompt = tokensOf(model, tokens + 1);
    const connector = memory();
    const sequence = await open(model, options);
    await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, tokens));
    await work?.(sequence);
    const before = await stateOf(sequence);
    const form = await saveSession(sequence, { connector, name: 'form', modelPath, chunkTokens: 16 });
    const fresh = await open(model, options);
    await loadSession(fresh, { connector, name: 'form', modelPath });
    expectSame(await stateOf(fresh), before);
    expect(await greedy(fresh, prompt[tokens] ?? 0, 4)).toEqual(await greedy(sequence, prompt[tokens] ?? 0, 4));
    expect(form).not.toHaveProperty('notUnderstood');
    return form;
  }

  it.each([
    ['K and V in q8_0', { flashAttention: true, experimentalKvCacheKeyType: 'Q8_0', experimentalKvCacheValueType: 'Q8_0' }, 3],
    ['K in f32 and V in f16', { experimentalKvCacheKeyType: 'F32' }, 6],
    ['K and V in bf16', { experimentalKvCacheKeyType: 'BF16', experimentalKvCacheValueType: 'BF16' }, 3],
    ['V transposed', { flashAttention: false }, 3],
    ['two sequences', { sequences: 2 }, 3],
  ])('%s', async (_, options, chunks) => {
    expect(await comesBack(smollm2, engine.smollm2, options)).toMatchObject({ chunks });
  });

  it('tokens that were shifted', async () => {
    await comesBack(smollm2, engine.smollm2, {}, async (sequence) => {
      await sequence.eraseContextTokenRanges([{ start: 10, end: 20 }]);
      // Only now llama.cpp turns K to the new positions: docs/llama.md says so.
      await sequence.evaluateWithoutGeneratingNewTokens([5]);
    });
  });

  it('Gemma with all cells', async () => {
    expect(await comesBack(gemma, engine.gemma, { swaFullCache: true })).toMatchObject({ chunks: 6 });
  });

  it('Gemma with sliding windows, which slide on in a second turn', async () => {
    const connector = memory();
    const long = tokensOf(gemma, 701);
    const options = { connector, name: 'gemma', modelPath: engine.gemma };
    const sequence = await open(gemma);
    await sequence.evaluateWithoutGeneratingNewTokens(long.slice(0, 620));
    expect(await saveSession(sequence, { ...options, chunkTokens: 64 })).toMatchObject({ chunks: 10 + 9, newChunks: 19 });
    await sequence.evaluateWithoutGeneratingNewTokens(long.slice(620, 700));
    const before = await stateOf(sequence);
    // Positions 0 to 575 of the global layers and 192 to 575 of the others are as they were; 188 to 191 are what is left of a chunk.
    const second = await saveSession(sequence, { ...options, chunkTokens: 64 });
    expect(second).toMatchObject({ chunks: 11 + 9, newChunks: 2 + 3 });
    const fresh = await open(gemma);
    await loadSession(fresh, options);
    expectSame(await stateOf(fresh), before);
    expect(await greedy(fresh, long[700] ?? 0, GREEDY)).toEqual(await greedy(sequence, long[700] ?? 0, GREEDY));
    console.log(`Gemma, ${second.tokens} tokens: state ${second.stateBytes} bytes, stored ${second.storedBytes} (${(second.stateBytes / second.storedBytes).toFixed(2)}x)`);
  });
});

function bound(target: object, field: string | symbol): unknown {
  const value: unknown = Reflect.get(target, field, target);
  return typeof value === 'function' ? value.bind(target) : value;
}
