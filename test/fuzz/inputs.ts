import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { mutateBytes } from './mutate.js';
import { randomOf } from './random.js';
import type { FuzzTarget } from './target.js';

/** Where the inputs of a target are kept that mutation starts from. */
export function corpusFolder(target: FuzzTarget): string {
  return join(import.meta.dirname, 'corpus', target.name);
}

/** The corpus of a target by file name. */
export function corpusOf(target: FuzzTarget): ReadonlyMap<string, Uint8Array> {
  const folder = corpusFolder(target);
  const names = existsSync(folder) ? readdirSync(folder).sort() : [];
  return new Map(names.map((name) => [name, new Uint8Array(readFileSync(join(folder, name)))]));
}

/** The input of one iteration: the same for the same corpus, seed and iteration. */
export function inputOf(target: FuzzTarget, corpus: readonly Uint8Array[], seed: number, iteration: number): Uint8Array {
  const random = randomOf(seed, iteration);
  const start = random.pick(corpus) ?? new Uint8Array(0);
  const reshaped = random.oneIn(3) ? undefined : target.reshape?.(start, random);
  if (reshaped !== undefined && !random.oneIn(8)) return reshaped;
  return mutateBytes(reshaped ?? start, corpus, random);
}
