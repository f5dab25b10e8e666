import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { goldenCases, type GoldenCase } from '../../../fixtures/containers/tensors.js';

const FOLDER = join(import.meta.dirname, '../../../fixtures/containers');

/** What fixtures/containers/golden.json keeps of an object: SHA-256 of its bytes and of the tensor that they decode to. */
export interface GoldenSums {
  readonly object_sha256: string;
  readonly tensor_sha256: string;
}

/** The sums of all golden objects, by name. */
export function goldenSums(): Readonly<Record<string, GoldenSums>> {
  return JSON.parse(readFileSync(join(FOLDER, 'golden.json'), 'utf8')) as Record<string, GoldenSums>;
}

/** The bytes of a golden object, as a copy that a test may damage. */
export function goldenObject(name: string): Uint8Array {
  return new Uint8Array(readFileSync(join(FOLDER, `${name}.kvr`)));
}

/** What a golden object was made from. Throws for a name that is none. */
export function goldenCase(name: string): GoldenCase {
  const found = goldenCases().find((golden) => golden.name === name);
  if (found === undefined) throw new Error(`no golden case is called ${name}`);
  return found;
}
