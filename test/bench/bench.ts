// What the parts of `npm run bench` share.
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { readCapture } from '../../connectors/engine/capture/capture.js';
import { parseDirectory } from '../../connectors/engine/capture/safetensors.js';
import type { KvTensor } from '../../lib/types.js';

/** What a part is given. */
export interface BenchContext {
  /** Paths of capture files. */
  readonly captures: readonly string[];
  /** Turns that each contender takes. */
  readonly rounds: number;
  /** Tells what is going on, or what was left out, on standard error. */
  note(text: string): void;
}

/** What a part measured: rows for machines, and the same for people. */
export interface BenchResult {
  readonly rows: readonly object[];
  readonly text: string;
}

/** The tensor of a capture file. */
export async function captureTensor(path: string): Promise<KvTensor> {
  const file = new Uint8Array(await readFile(path));
  const headerBytes = Number(new DataView(file.buffer).getBigUint64(0, true));
  const header = file.subarray(8, 8 + headerBytes);
  const name = basename(path);
  return readCapture({ name, header, directory: parseDirectory(header, name), data: file.subarray(8 + headerBytes) }).tensor;
}

/** Median, least and greatest of some numbers. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** The spread of at least one number. */
export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (index: number): number => sorted[index] ?? NaN;
  const middle = sorted.length / 2;
  return { median: (at(Math.ceil(middle) - 1) + at(Math.floor(middle))) / 2, min: at(0), max: at(sorted.length - 1) };
}

/** `median (min-max)`. */
export function spreadText({ median, min, max }: Spread, digits = 0): string {
  return `${median.toFixed(digits)} (${min.toFixed(digits)}-${max.toFixed(digits)})`;
}
