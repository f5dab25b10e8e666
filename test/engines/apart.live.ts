// What must not be found by whom: caches of another dtype, adapter or tenant. Upstream crashes on the first.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TestServer } from '../servers/server.js';
import { writeAdapter } from './adapter.js';
import { newSocket, startDaemon } from './daemon.js';
import { ourConnector, startEngine, type Engine, type Prompt } from './engine.js';
import { fullChunks, SHORT } from './prompts.js';
import { filesystemStore } from './stores.js';
import { stored } from './stored.js';

const socket = newSocket();
const store = filesystemStore();
const folder = mkdtempSync(join(tmpdir(), 'kvreel-engines-adapter-'));
const [prompt = { text: '', tokens: 0 }] = SHORT;
const one = { ...prompt, adapter: { name: 'one', id: 1, path: folder } };
let daemon: TestServer | undefined;
let engine: Engine | undefined;

/** Tokens of the prompt that were found, in the store alone; what was computed is in the store afterwards. */
async function found(asked: Prompt): Promise<number> {
  if (engine === undefined) throw new Error('no engine');
  await engine.forget();
  const [completion] = await engine.complete([asked], 1);
  await stored(engine);
  return completion?.cached ?? -1;
}

beforeAll(async () => {
  writeAdapter(folder);
  daemon = await startDaemon(socket, store);
  const more = { enable_lora: true, max_lora_rank: 8, max_loras: 1 };
  engine = await startEngine({ model: 'smollm2', dtype: 'bfloat16', kvTransfer: ourConnector(socket, { deadline_ms: 40_000 }), more });
});

afterAll(async () => {
  await engine?.stop();
  await daemon?.stop();
  await store.stop();
  rmSync(folder, { recursive: true, force: true });
});

describe('a cache is found by whom it belongs to, and by nobody else', () => {
  it('by the model without an adapter', async () => {
    expect(await found(prompt)).toBe(0);
    expect(await found(prompt)).toBe(fullChunks(prompt));
  });

  it('by the adapter of the same name', async () => {
    expect(await found(one)).toBe(0);
    expect(await found(one)).toBe(fullChunks(prompt));
    expect(await found({ ...one, adapter: { ...one.adapter, name: 'two', id: 2 } })).toBe(0);
  });

  it('by the tenant with the same salt', async () => {
    expect(await found({ ...prompt, salt: 'tenant' })).toBe(0);
    expect(await found({ ...prompt, salt: 'tenant' })).toBe(fullChunks(prompt));
    expect(await found({ ...prompt, salt: 'another' })).toBe(0);
  });

  it('not by an engine of another dtype, which goes on with its own', async () => {
    await engine?.stop();
    engine = await startEngine({ model: 'smollm2', dtype: 'float32', kvTransfer: ourConnector(socket, { deadline_ms: 40_000 }) });
    expect(await found(prompt)).toBe(0);
    expect(await found(prompt)).toBe(fullChunks(prompt));
  });
});
