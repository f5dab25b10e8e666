// The manifest of a session of llama.cpp, and what is concluded from it before anything else is read.
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { Packr, Unpackr } from 'msgpackr';
import { packSession, unpackSession, type SessionManifest } from '../../../connectors/engine/llama/session-manifest.js';
import { manifestKey } from '../../../connectors/engine/llama/session-chunks.js';
import { parseState } from '../../../connectors/engine/llama/state.js';
import { readSession } from '../../../connectors/engine/llama/stored-session.js';
import { memory } from '../../../connectors/storage/memory.js';
import { stateBytes } from '../../llama/state-bytes.js';
import { mutateValue } from '../mutate.js';
import { expectThat, refusal, type FuzzTarget } from '../target.js';

const NAME = 'fuzz';
const HEAD_BYTES = 8;
const PREAMBLE_BYTES = HEAD_BYTES + 32;
const packr = new Packr({ useRecords: false, variableMapSize: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

function manifestOf(state: Uint8Array, chunks: number): SessionManifest {
  const { frame, tokens } = parseState({ bytes: state.length, read: (offset, length) => state.subarray(offset, offset + length) });
  return {
    name: NAME,
    fingerprint: { model: 'ab'.repeat(32), adapter: '', llamaCpp: 'ggml-org/llama.cpp v0.5.0', keyType: 1, valueType: 1, flashAttention: 'auto', sequences: 1, isStretched: false },
    rung: 'exact',
    tokens: tokens.length,
    stateBytes: state.length,
    isUnderstood: true,
    frame,
    chunkTokens: 16,
    chunks: Array.from({ length: chunks }, (_, i) => ({ digest: new Uint8Array(32).fill(i), objectBytes: 100 + i })),
    metadata: { history: 'äöü' },
  };
}

const HALVES = { type: 1, rowBytes: 8 };
const TOKENS = Array.from({ length: 20 }, (_, i) => i);

export const llamaSession: FuzzTarget = {
  name: 'llama-session',

  seeds: () => ({
    understood: packSession(manifestOf(stateBytes(TOKENS, [{ positions: TOKENS, layers: 1, key: HALVES, value: HALVES }]), 2)),
    bytes: packSession({ ...manifestOf(stateBytes([1], [{ positions: [0], layers: 1, key: HALVES, value: HALVES }]), 1), isUnderstood: false, frame: new Uint8Array(44), stateBytes: 300 }),
  }),

  reshape(input, random) {
    let fields: unknown;
    try {
      fields = unpackr.unpack(input.subarray(PREAMBLE_BYTES));
    } catch {
      return undefined;
    }
    const payload = packr.pack(mutateValue(fields, random));
    return new Uint8Array(Buffer.concat([input.subarray(0, HEAD_BYTES), createHash('sha256').update(payload).digest(), payload]));
  },

  async meet(input) {
    try {
      const read = unpackSession(input);
      expectThat(isDeepStrictEqual(unpackSession(packSession(read)), read), 'a manifest that was read can be written and read again');
      const connector = memory();
      await connector.put(manifestKey(NAME), input);
      const session = await readSession({ connector, name: NAME }, {});
      expectThat(session !== undefined && session.chunks.length === read.chunks.length, 'each chunk of the state is listed');
      return 'accepted';
    } catch (error) {
      return refusal(error, ['KV_CORRUPT_OBJECT', 'KV_UNSUPPORTED', 'KV_UNSUPPORTED_VERSION']);
    }
  },
};
