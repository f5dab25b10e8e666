// Sessions of the real llama.cpp: what is loaded goes on with the same tokens, from the same bytes.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadSession, saveSession } from '../../connectors/engine/llama.js';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { memory } from '../../connectors/storage/memory.js';
import { counting } from './counting.js';
import { greedy, startEngine, type Engine, type Model, type Sequence } from './engine.js';

const PROMPT_TOKENS = 300;
const GREEDY = 16;

let folder = '';
let engine: Engine;
let smollm2: Model;
let prompt: number[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kvreel-llama-test-'));
  engine = await startEngine();
  smollm2 = await engine.load(engine.smollm2);
  prompt = smollm2.tokenize(readFileSync(join(import.meta.dirname, '../../LICENSE'), 'utf8')).slice(0, PROMPT_TOKENS);
});

afterAll(async () => {
  await engine?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function open(model: Model, options: Readonly<Record<string, unknown>> = {}): Promise<Sequence> {
  const context = await model.createContext({ contextSize: 1024, threads: 2, ...options });
  return context.getSequence();
}

async function stateOf(sequence: Sequence): Promise<Buffer> {
  const path = join(folder, `state-${Math.random()}`);
  await sequence.saveStateToFile(path);
  const state = readFileSync(path);
  rmSync(path);
  return state;
}

describe('a session', () => {
  it('goes on in a fresh context with the same tokens from the same bytes; a second turn stores only what is new', async () => {
    const connector = counting(filesystem({ path: join(folder, 'store') }));
    const place = { connector, name: 'chat', modelPath: engine.smollm2 };
    const sequence = await open(smollm2);
    const startMs = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, -1));
    const prefillMs = performance.now() - startMs;
    const state = await stateOf(sequence);
    const saved = await saveSession(sequence, place);
    console.log(saved, prefillMs);
    const next = await greedy(sequence, prompt.at(-1) ?? 0, GREEDY);

    const fresh = await open(smollm2);
    console.log(await loadSession(fresh, place));
    expect(await stateOf(fresh)).toEqual(state);
    expect(await greedy(fresh, prompt.at(-1) ?? 0, GREEDY)).toEqual(next);
  });
});
