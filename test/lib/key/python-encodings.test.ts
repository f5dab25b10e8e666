import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { cbor } from '../../../lib/key/cbor.js';
import { hashInt, hashText, hashTuple, textHashKey } from '../../../lib/key/cpython-hash.js';
import { pickle5 } from '../../../lib/key/pickle5.js';
import type { PythonValue } from '../../../lib/key/python-value.js';
import { fixture } from './fixture.js';
import { tokens } from './tokens.js';

type Value = { int: number } | { wide: string } | { text: string; times: number } | { stream: number; length: number };

describe('an encoded value', () => {
  test('is what Python writes', () => {
    for (const row of fixture<Value & { cbor: string; pickle: string }>('python-encodings.json')) {
      const whole = [Uint8Array.from({ length: 32 }, (_, i) => i), value(row), null];
      expect({ cbor: shown(cbor(whole)), pickle: shown(pickle5(whole)) }, JSON.stringify(row)).toEqual({ cbor: row.cbor, pickle: row.pickle });
    }
  });

  function value(row: Value): PythonValue {
    if ('int' in row) return row.int;
    if ('wide' in row) return BigInt(row.wide);
    if ('text' in row) return { text: row.text.repeat(row.times) };
    return tokens(row.stream, row.length);
  }

  function shown(bytes: Uint8Array): string {
    return bytes.length <= 128 ? Buffer.from(bytes).toString('hex') : `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  }
});

describe('a hash', () => {
  type Hashed = { int: string } | { stream: number; length: number } | { seed: string; text: string };

  test('is what Python computes', () => {
    for (const row of fixture<Hashed & { hash: string }>('python-hashes.json')) {
      expect(String(hash(row)), JSON.stringify(row)).toBe(row.hash);
    }
  });

  function hash(row: Hashed): bigint {
    if ('int' in row) return hashInt(BigInt(row.int));
    if ('text' in row) return hashText(row.text, textHashKey(Number(row.seed)));
    return hashTuple(Array.from(tokens(row.stream, row.length), BigInt));
  }
});
