import type { ChunkDescription, Coder } from './coder.js';
import { exact } from './exact.js';
import { hevc } from './hevc.js';
import { rans } from './rans.js';
import { raw } from './raw.js';
import { zstd } from './zstd.js';

const CODERS: readonly Coder[] = [raw, exact, rans, hevc, zstd];

/** Names that the `coder` option takes, without `auto`. */
export const CODER_NAMES: readonly string[] = CODERS.map((coder) => coder.name);

/** The coder of that name, if there is one. */
export function coderNamed(name: string): Coder | undefined {
  return CODERS.find((coder) => coder.name === name);
}

/** What `auto` stands for: the smallest coder that needs no special hardware to be read. */
export function defaultCoder(chunk: ChunkDescription): Coder {
  return chunk.rung.name === 'exact' ? exact : rans;
}
