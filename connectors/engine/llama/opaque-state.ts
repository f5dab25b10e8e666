// A state whose form is not known, such as that of a model with recurrent layers, is kept as plain bytes: rows of one plane, what is left
// over as its frame. It comes back to the last byte, but all of it is stored again each time.
import { KvError } from '../../../lib/errors.js';
import { parseState, type LlamaState, type StateSource } from './state.js';

const ROW_BYTES = 256;
const CHUNK_BYTES = 4 << 20;
/** ggml's number of 8-bit integers. */
const INT8 = 24;

/** Rows of one chunk of an opaque state. */
export const OPAQUE_CHUNK_ROWS = CHUNK_BYTES / ROW_BYTES;

/** A state as `parseState` finds it; as bytes, with the reason, where it does not. */
export function understoodOrOpaque(source: StateSource): { readonly state: LlamaState; readonly notUnderstood?: string } {
  try {
    return { state: parseState(source) };
  } catch (error) {
    if (!(error instanceof KvError) || error.code !== 'KV_UNSUPPORTED') throw error;
    return { state: opaqueOf(source), notUnderstood: error.message };
  }
}

/** A state as bytes. */
export function opaqueOf(source: StateSource): LlamaState {
  const rest = source.bytes % ROW_BYTES;
  return opaqueState(source.read(source.bytes - rest, rest), source.bytes);
}

/** A state of `stateBytes` bytes as bytes. Throws KV_CORRUPT_OBJECT if the frame cannot be that of one. */
export function opaqueState(frame: Uint8Array, stateBytes: number): LlamaState {
  if (frame.length !== stateBytes % ROW_BYTES || stateBytes < ROW_BYTES) throw new KvError('KV_CORRUPT_OBJECT', `the session is damaged: a state of ${stateBytes} bytes has no rest of ${frame.length}`);
  const rows = Math.floor(stateBytes / ROW_BYTES);
  const section = { positions: Uint32Array.from({ length: rows }, (_, i) => i), planes: [{ type: INT8, rowBytes: ROW_BYTES, offset: 0, transposedBytes: 0 }] };
  return { bytes: stateBytes, tokens: new Int32Array(0), sections: [section], frame, frameSpans: [{ offset: rows * ROW_BYTES, length: frame.length }] };
}
