// States as llama.cpp writes them, made from numbers: also of kinds that none of the models here has.
import fc from 'fast-check';

/** One KV cache of a state. */
export interface SectionParts {
  /** Position of each cell. */
  readonly positions: readonly number[];
  readonly layers: number;
  /** ggml's number of a type, and the bytes of a row. */
  readonly key: { readonly type: number; readonly rowBytes: number };
  readonly value: { readonly type: number; readonly rowBytes: number };
  /** Bytes of an element of V, if V lies transposed. */
  readonly transposedBytes?: number;
  /** Streams of the context, and the one that the cells are of. Default: one. */
  readonly streams?: number;
  readonly stream?: number;
}

/** A state with rows of noise; the same for the same arguments. */
export function stateBytes(tokens: readonly number[], sections: readonly SectionParts[], seed = 1): Uint8Array {
  let noise = seed;
  const parts: Uint8Array[] = [u32(0x67677371, 3, tokens.length, ...tokens)];
  const rows = (bytes: number): Uint8Array =>
    Uint8Array.from({ length: bytes }, () => {
      noise = (Math.imul(noise, 1664525) + 1013904223) | 0;
      return noise >>> 24;
    });
  for (const { positions, layers, key, value, transposedBytes, streams = 1, stream = 0 } of sections) {
    const cells = positions.length;
    parts.push(u32(streams));
    for (let i = 0; i < streams; i++) {
      if (i !== stream) {
        parts.push(u32(0));
        continue;
      }
      parts.push(u32(cells, ...positions.flatMap((position) => [position, 1, stream])), u32(transposedBytes === undefined ? 0 : 1, layers));
      for (let layer = 0; layer < layers; layer++) parts.push(u32(key.type, key.rowBytes, 0), rows(cells * key.rowBytes));
      for (let layer = 0; layer < layers; layer++) {
        parts.push(transposedBytes === undefined ? u32(value.type, value.rowBytes, 0) : u32(value.type, transposedBytes, value.rowBytes / transposedBytes), rows(cells * value.rowBytes));
      }
    }
  }
  return new Uint8Array(Buffer.concat(parts));
}

function u32(...values: readonly number[]): Uint8Array {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => bytes.writeUInt32LE(value >>> 0, 4 * i));
  return bytes;
}

const HALVES = { type: 1, rowBytes: 8 };

const anySection: fc.Arbitrary<SectionParts> = fc
  .record({
    positions: fc.uniqueArray(fc.integer({ min: 0, max: 200 }), { minLength: 1, maxLength: 60 }),
    layers: fc.integer({ min: 1, max: 4 }),
    key: fc.constantFrom({ type: 0, rowBytes: 16 }, HALVES, { type: 8, rowBytes: 34 }, { type: 30, rowBytes: 12 }),
    value: fc.constantFrom({ type: 0, rowBytes: 16 }, HALVES, { type: 8, rowBytes: 34 }, { type: 1, rowBytes: 24 }),
    isTransposed: fc.boolean(),
    streams: fc.integer({ min: 1, max: 3 }),
  })
  .map(({ isTransposed, ...section }) => ({
    ...section,
    stream: section.streams - 1,
    ...(isTransposed && section.value.type !== 8 && { transposedBytes: section.value.type === 0 ? 4 : 2 }),
  }));

/** What `stateBytes` takes: KV caches of every form that is understood. */
export const anyState = fc.record({ tokens: fc.array(fc.integer({ min: 0, max: 50_000 }), { maxLength: 40 }), sections: fc.array(anySection, { minLength: 1, maxLength: 2 }), seed: fc.integer() });
