// What the engines complete: texts that do not change with the code.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Prompt } from './engine.js';
import { ROOT } from './environment.js';

/** Tokens that each completion has. */
export const NEW_TOKENS = 12;

/** Tokens of the chunks that are stored; the default of LMCache and of ours. */
export const CHUNK_TOKENS = 256;

const LICENSE = readFileSync(join(ROOT, 'LICENSE'), 'utf8');

/** For the times. What is no full chunk of it, and so computed again, is half a chunk, as on average. */
export const LONG: Prompt = { text: LICENSE, tokens: 2_176 };

/** Shorter ones that share nothing with it: for tokens. */
export const SHORT: readonly Prompt[] = [
  { text: LICENSE, tokens: 600, skip: 100 },
  { text: LICENSE, tokens: 1_030, skip: 700 },
];

/** Tokens of the prompt's full chunks, of which a hit has to bring nearly all. */
export function fullChunks({ tokens }: Prompt): number {
  return Math.floor((tokens - 1) / CHUNK_TOKENS) * CHUNK_TOKENS;
}
