import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseFrame, parseState, type LlamaState } from '../../connectors/engine/llama/state.js';
import { anyState, stateBytes } from './state-bytes.js';

const F16 = { type: 1, rowBytes: 8 };

function parse(bytes: Uint8Array): LlamaState {
  return parseState({ bytes: bytes.length, read: (offset, length) => bytes.subarray(offset, offset + length) });
}

describe('the parser of states', () => {
  it('finds every row of any state, and the frame has all the rest', () => {
    fc.assert(
      fc.property(anyState, ({ tokens, sections, seed }) => {
        const bytes = stateBytes(tokens, sections, seed);
        const state = parse(bytes);
        expect([...state.tokens]).toEqual(tokens);
        expect(state.sections.map(({ positions }) => [...positions])).toEqual(sections.map(({ positions }) => positions));
        const planes = state.sections.flatMap((section) => section.planes.map((plane) => ({ offset: plane.offset, length: section.positions.length * plane.rowBytes })));
        const covered = [...planes, ...state.frameSpans].sort((a, b) => a.offset - b.offset);
        let end = 0;
        for (const { offset, length } of covered) {
          expect(offset).toBe(end);
          end += length;
        }
        expect(end).toBe(bytes.length);
      }),
      { numRuns: 200 },
    );
  });

  it('finds the same rows by the frame alone', () => {
    fc.assert(
      fc.property(anyState, ({ tokens, sections, seed }) => {
        const bytes = stateBytes(tokens, sections, seed);
        const state = parse(bytes);
        expect(parseFrame(state.frame, bytes.length)).toEqual(state);
      }),
      { numRuns: 200 },
    );
  });

  it('refuses a state that is cut off anywhere, or has a byte more', () => {
    const bytes = stateBytes([1, 2, 3], [{ positions: [0, 1, 2], layers: 2, key: F16, value: F16 }]);
    for (let length = 0; length < bytes.length; length++) expect(() => parse(bytes.subarray(0, length)), `${length} bytes`).toThrow(expect.objectContaining({ code: 'KV_UNSUPPORTED' }));
    expect(() => parse(new Uint8Array([...bytes, 0]))).toThrow(expect.objectContaining({ code: 'KV_UNSUPPORTED' }));
  });

  it('refuses a frame of a state of another length', () => {
    const bytes = stateBytes([1, 2, 3], [{ positions: [0, 1, 2], layers: 2, key: F16, value: F16 }]);
    const { frame } = parse(bytes);
    for (const length of [0, frame.length, bytes.length - 1, bytes.length + 1, 2 * bytes.length]) expect(() => parseFrame(frame, length), `${length} bytes`).toThrow(expect.objectContaining({ code: 'KV_UNSUPPORTED' }));
    expect(() => parseFrame(new Uint8Array([...frame, 0]), bytes.length + 1)).toThrow(expect.objectContaining({ code: 'KV_UNSUPPORTED' }));
  });

  it.each([
    ['another magic', 0, 1],
    ['another version', 4, 2],
    ['a cell of two sequences', 12 + 4 + 8 + 4, 2],
    ['V neither transposed nor not', 12 + 4 + 8 + 12, 2],
  ])('refuses %s', (_, offset, value) => {
    const bytes = stateBytes([7], [{ positions: [0], layers: 1, key: F16, value: F16 }]);
    new DataView(bytes.buffer).setUint32(offset, value, true);
    expect(() => parse(bytes)).toThrow(expect.objectContaining({ code: 'KV_UNSUPPORTED' }));
  });
});
