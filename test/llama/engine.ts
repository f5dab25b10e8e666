// The real node-llama-cpp and the models of setup.sh.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { LlamaSequence } from '../../connectors/engine/llama.js';

/** What the tests use of node-llama-cpp's own classes. */
export interface Sequence extends LlamaSequence {
  readonly contextTokens: readonly number[];
  evaluate(tokens: readonly number[], options: { readonly temperature: number }): AsyncGenerator<number, void, void>;
  evaluateWithoutGeneratingNewTokens(tokens: readonly number[]): Promise<void>;
  eraseContextTokenRanges(ranges: readonly { readonly start: number; readonly end: number }[]): Promise<void>;
  clearHistory(): Promise<void>;
}

/** A context of a model. */
export interface Context {
  getSequence(): Sequence;
  dispose(): Promise<void>;
}

/** A loaded model. */
export interface Model {
  tokenize(text: string): number[];
  createContext(options: Readonly<Record<string, unknown>>): Promise<Context>;
}

/** node-llama-cpp, as far as it is used. */
interface Library {
  getLlama(options: Readonly<Record<string, unknown>>): Promise<{ loadModel(options: { readonly modelPath: string }): Promise<Model>; dispose(): Promise<void> }>;
}

/** Where the package and the models are. */
export interface Engine {
  readonly folder: string;
  readonly smollm2: string;
  readonly gemma: string;
  load(modelPath: string): Promise<Model>;
  stop(): Promise<void>;
}

/** Starts node-llama-cpp, installing it where it is missing (a minute). */
export async function startEngine(): Promise<Engine> {
  const folder = engineFolder();
  const { getLlama } = (await import(pathToFileURL(join(folder, 'node_modules/node-llama-cpp/dist/index.js')).href)) as Library;
  const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, logLevel: 'error' });
  return {
    folder,
    smollm2: join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf'),
    gemma: join(folder, 'gemma-3-270m-q4_k_m.gguf'),
    load: (modelPath) => llama.loadModel({ modelPath }),
    stop: () => llama.dispose(),
  };
}

/** The folder that setup.sh makes. */
export function engineFolder(): string {
  return execFileSync(join(import.meta.dirname, 'setup.sh'), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }).trimEnd().split('\n').at(-1) ?? '';
}

/** The next tokens, each the likeliest; `first` is evaluated and not among them. */
export async function greedy(sequence: Sequence, first: number, count: number): Promise<number[]> {
  const tokens: number[] = [];
  for await (const token of sequence.evaluate([first], { temperature: 0 })) {
    tokens.push(token);
    if (tokens.length === count) break;
  }
  return tokens;
}
