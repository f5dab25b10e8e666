// The state of a sequence, as llama.cpp writes it: where its rows are, and that its frame alone says the same.
import { isDeepStrictEqual } from 'node:util';
import { planChunks } from '../../../connectors/engine/llama/chunk-plan.js';
import { parseFrame, parseState } from '../../../connectors/engine/llama/state.js';
import { stateBytes, type SectionParts } from '../../llama/state-bytes.js';
import { expectThat, refusal, type FuzzTarget } from '../target.js';

const HALVES = { type: 1, rowBytes: 8 };
const TOKENS = [3, 1, 4, 1, 5];
const POSITIONS = [0, 1, 2, 3, 4];
const CACHE: SectionParts = { positions: POSITIONS, layers: 2, key: HALVES, value: HALVES };

export const llamaState: FuzzTarget = {
  name: 'llama-state',

  seeds: () => ({
    plain: stateBytes(TOKENS, [CACHE]),
    transposed: stateBytes(TOKENS, [{ ...CACHE, transposedBytes: 2 }]),
    windows: stateBytes(TOKENS, [CACHE, { ...CACHE, positions: [4, 2, 3] }]),
    streams: stateBytes(TOKENS, [{ ...CACHE, streams: 3, stream: 1 }]),
    blocks: stateBytes(TOKENS, [{ ...CACHE, key: { type: 8, rowBytes: 34 } }]),
  }),

  // A word of it changed: most are counts and sizes, which a change of single bytes rarely leaves in range.
  reshape(input, random) {
    if (input.length < 8) return undefined;
    const changed = Uint8Array.from(input);
    const view = new DataView(changed.buffer);
    const at = 4 * random.below(changed.length >> 2);
    view.setUint32(at, random.pick([0, 1, 2, 4, 5, 6, 16, view.getUint32(at, true) + 1, view.getUint32(at, true) - 1, 0x7fffffff, 0xffffffff]) ?? 0, true);
    return changed;
  },

  meet(input) {
    try {
      const state = parseState({ bytes: input.length, read: (offset, length) => input.subarray(offset, offset + length) });
      const rowBytes = state.sections.flatMap(({ positions, planes }) => planes.map((plane) => positions.length * plane.rowBytes)).reduce((sum, bytes) => sum + bytes, 0);
      expectThat(state.frame.length + rowBytes === input.length, 'the frame and the rows are all of the state');
      expectThat(isDeepStrictEqual(parseFrame(state.frame, input.length), state), 'the frame alone gives the same state');
      const plan = planChunks(state, 4);
      if (typeof plan === 'string') return 'accepted as bytes';
      const planned = plan.reduce((sum, { planes, cells }) => sum + cells.length * planes.reduce((bytes, plane) => bytes + plane.rowBytes, 0), 0);
      expectThat(planned === rowBytes, 'the chunks have every row once');
      return 'accepted';
    } catch (error) {
      return refusal(error, ['KV_UNSUPPORTED']);
    }
  },
};
