// A real vLLM in a process of its own, which does what it is told (engine.py).
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { documentedJson } from './documented.js';
import { provideEnvironment, type ModelName } from './environment.js';

/** What to complete: the first `tokens` tokens of a text. */
export interface Prompt {
  readonly text: string;
  readonly tokens: number;
  /** Tokens of the text to leave out before. */
  readonly skip?: number;
  readonly salt?: string;
  readonly adapter?: { readonly name: string; readonly id: number; readonly path: string };
}

/** What came of it. */
export interface Completion {
  readonly tokens: readonly number[];
  /** Tokens of the prompt that were not computed. */
  readonly cached: number;
  /** Seconds until the first token. */
  readonly ttft_s: number;
  /** Seconds until the last. */
  readonly seconds: number;
  readonly reason: string;
}

/** What the next token may be. */
export interface Next {
  /** Tokens of the prompt that were not computed. */
  readonly cached: number;
  /** Natural logarithm of the probability of each token. */
  readonly logprobs: readonly number[];
}

/** What the connector has counted since the engine started. */
export interface Counts {
  readonly stored: number;
  readonly dropped: number;
  readonly discarded: number;
  readonly queued_bytes: number;
  readonly layouts: readonly string[];
  readonly client: { readonly failures: Readonly<Record<string, number>>; readonly misses: Readonly<Record<string, number>> };
}

/** How to start it. */
export interface EngineSettings {
  readonly model: ModelName;
  readonly dtype?: 'float32' | 'bfloat16';
  readonly kvTransfer?: Readonly<Record<string, unknown>>;
  /** Further arguments of vllm.LLM. */
  readonly more?: Readonly<Record<string, unknown>>;
  readonly env?: Readonly<Record<string, string>>;
}

/** A running engine. */
export interface Engine {
  /** Completes prompts greedily as one batch, `count` tokens each. */
  complete(prompts: readonly Prompt[], count: number): Promise<Completion[]>;
  next(prompt: Prompt): Promise<Next>;
  /** A digest of what all layers hold of each full block in the engine's own prefix cache, by the block's hash. */
  pages(): Promise<Readonly<Record<string, string>>>;
  /** Empties the engine's own prefix cache. */
  forget(): Promise<void>;
  counts(): Promise<Counts>;
  /** What it has printed. */
  log(): string;
  stop(): Promise<void>;
}

/** The KV transfer settings of docs/vllm.md, for a daemon at another place. */
export function ourConnector(address: string, more: Readonly<Record<string, unknown>> = {}): Readonly<Record<string, unknown>> {
  return { ...documentedJson('vllm.md', '--kv-transfer-config'), kv_connector_extra_config: { address, ...more } };
}

/** Starts an engine: half a minute. */
export async function startEngine(settings: EngineSettings): Promise<Engine> {
  const { python, model, env } = provideEnvironment();
  const { dtype = 'float32', kvTransfer, more } = settings;
  const arguments_ = { model: model(settings.model), dtype, ...(kvTransfer && { kv_transfer_config: kvTransfer }), ...more };
  const child = spawn(python, [join(import.meta.dirname, 'engine.py'), JSON.stringify(arguments_)], {
    env: { ...process.env, ...env, ...settings.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (text: Buffer) => (said = `${said}${text.toString()}`.slice(-20_000)));
  const ended = once(child, 'exit');
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();

  async function answer<T>(): Promise<T> {
    const line = await answers.next();
    if (line.done === true) throw new Error(`the engine ended:\n${said}`);
    const value = JSON.parse(line.value) as T & { error?: string };
    if (value.error !== undefined) throw new Error(`the engine failed: ${value.error}\n${said}`);
    return value;
  }

  function ask<T>(job: Readonly<Record<string, unknown>>): Promise<T> {
    child.stdin.write(`${JSON.stringify(job)}\n`);
    return answer<T>();
  }

  await answer();
  return {
    complete: async (prompts, count) => (await ask<{ results: Completion[] }>({ do: 'generate', prompts, new: count })).results,
    async next(prompt) {
      const { results } = await ask<{ results: [Next] }>({ do: 'generate', prompts: [prompt], new: 1, logprobs: true });
      return results[0];
    },
    pages: async () => (await ask<{ pages: Record<string, string> }>({ do: 'pages' })).pages,
    forget: async () => void (await ask({ do: 'forget' })),
    counts: () => ask<Counts>({ do: 'counts' }),
    log: () => said,
    async stop() {
      child.stdin.end();
      await ended;
    },
  };
}
