// fixtures/hashes/cases.py has the same formula: change both or neither.
const EDGES = [0, 23, 24, 255, 256, 65535, 65536, 199999, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1];
const LIMITS = [24, 256, 65536, 200000];

/** The first `length` token ids of stream number `stream`: every third is an edge of some encoding. */
export function tokens(stream: number, length: number): Uint32Array {
  let state = stream;
  return Uint32Array.from({ length }, (_, i) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const id = i % 3 === 2 ? EDGES[(stream + i) % 11] : (state >>> 8) % (LIMITS[(stream + i) % 4] ?? 1);
    return id ?? 0;
  });
}
