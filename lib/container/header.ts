// The header of an object: everything but the coded bytes. docs/format.md is the specification that this file follows.
import { Packr, Unpackr } from 'msgpackr';
import type { KvLayout, RopeParameters } from '../types.js';
import { fieldReader } from './wire-fields.js';

/** Largest deviation and relative RMS error of a decoded tensor, measured when it was encoded. */
export interface MeasuredError {
  readonly maxAbsolute: number;
  readonly relativeRms: number;
}

/** What an object says of itself. */
export interface ObjectHeader {
  readonly layout: KvLayout;
  /** Absolute position of the first token. */
  readonly start: number;
  readonly coder: string;
  readonly rung: string;
  /** Tokens of one section. */
  readonly groupTokens: number;
  /** The storage key that the object was made for; empty if it was made for none. */
  readonly key: string;
  /** Side information of the coder, opaque here. */
  readonly model: Uint8Array;
  /** Length of each section; they follow the header in this order without gaps. */
  readonly lengths: Uint32Array;
  /** XXH3 of each section. */
  readonly checksums: BigUint64Array;
  /** Absent where decoding restores every bit. */
  readonly error?: MeasuredError;
  readonly tokenIds?: Int32Array;
  readonly metadata?: Readonly<Record<string, string>>;
}

interface WireLayout {
  order: string;
  dtype: string;
  layers: number;
  tokens: number;
  kv_heads: number;
  head_dim: number;
  block_tokens?: number;
  rope?: { theta: number[]; style: string; rotary_dims?: number };
}

const packr = new Packr({ useRecords: false, variableMapSize: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

const FIELDS = ['layout', 'start', 'coder', 'rung', 'group_tokens', 'key', 'model', 'lengths', 'checksums', 'error', 'token_ids', 'metadata'];

const { binary, corrupt, finite, integer, list, record, refuseUnknown, stringRecord, text } = fieldReader("the object's header");

/** The header as msgpack. */
export function packHeader(header: ObjectHeader): Uint8Array {
  return packr.pack({
    layout: toWireLayout(header.layout),
    start: header.start,
    coder: header.coder,
    rung: header.rung,
    group_tokens: header.groupTokens,
    key: header.key,
    model: header.model,
    lengths: bytesOf(header.lengths),
    checksums: bytesOf(header.checksums),
    ...(header.error && { error: { max_absolute: header.error.maxAbsolute, relative_rms: header.error.relativeRms } }),
    ...(header.tokenIds && { token_ids: bytesOf(header.tokenIds) }),
    ...(header.metadata && { metadata: header.metadata }),
  });
}

/**
 * Reads a header whose checksum has been found right. Only its structure is checked here; whether the layout makes sense is
 * the codec's question. Rejects with KV_CORRUPT_OBJECT, or KV_UNSUPPORTED for a field that this version does not know.
 */
export function unpackHeader(bytes: Uint8Array): ObjectHeader {
  const raw = record(decodeMsgpack(bytes), 'header');
  refuseUnknown(raw, FIELDS);
  const lengths = readU32(binary(raw.lengths, 'lengths'), 'lengths');
  const checksums = readU64(binary(raw.checksums, 'checksums'), 'checksums');
  if (lengths.length !== checksums.length) throw corrupt('lengths and checksums differ in number');
  const error = raw.error === undefined ? undefined : record(raw.error, 'error');
  return {
    layout: fromWireLayout(record(raw.layout, 'layout')),
    start: integer(raw.start, 'start'),
    coder: text(raw.coder, 'coder'),
    rung: text(raw.rung, 'rung'),
    groupTokens: integer(raw.group_tokens, 'group_tokens'),
    key: text(raw.key, 'key'),
    model: binary(raw.model, 'model'),
    lengths,
    checksums,
    ...(error && { error: { maxAbsolute: finite(error.max_absolute, 'max_absolute'), relativeRms: finite(error.relative_rms, 'relative_rms') } }),
    ...(raw.token_ids !== undefined && { tokenIds: new Int32Array(readU32(binary(raw.token_ids, 'token_ids'), 'token_ids')) }),
    ...(raw.metadata !== undefined && { metadata: stringRecord(raw.metadata, 'metadata') }),
  };
}

function decodeMsgpack(bytes: Uint8Array): unknown {
  try {
    return unpackr.unpack(bytes);
  } catch (cause) {
    throw corrupt('it is not msgpack', cause);
  }
}

function toWireLayout(layout: KvLayout): WireLayout {
  const { rope } = layout;
  return {
    order: layout.order,
    dtype: layout.dtype,
    layers: layout.layers,
    tokens: layout.tokens,
    kv_heads: layout.kvHeads,
    head_dim: layout.headDim,
    ...(layout.blockTokens !== undefined && { block_tokens: layout.blockTokens }),
    ...(rope && {
      rope: {
        theta: typeof rope.theta === 'number' ? [rope.theta] : [...rope.theta],
        style: rope.style,
        ...(rope.rotaryDims !== undefined && { rotary_dims: rope.rotaryDims }),
      },
    }),
  };
}

function fromWireLayout(raw: Record<string, unknown>): KvLayout {
  return {
    order: text(raw.order, 'order') as KvLayout['order'],
    dtype: text(raw.dtype, 'dtype') as KvLayout['dtype'],
    layers: integer(raw.layers, 'layers'),
    tokens: integer(raw.tokens, 'tokens'),
    kvHeads: integer(raw.kv_heads, 'kv_heads'),
    headDim: integer(raw.head_dim, 'head_dim'),
    ...(raw.block_tokens !== undefined && { blockTokens: integer(raw.block_tokens, 'block_tokens') }),
    ...(raw.rope !== undefined && { rope: fromWireRope(record(raw.rope, 'rope')) }),
  };
}

function fromWireRope(raw: Record<string, unknown>): RopeParameters {
  const theta = list(raw.theta, 'rope.theta').map((value) => finite(value, 'rope.theta'));
  const [only] = theta;
  if (only === undefined) throw corrupt('rope.theta is empty');
  return {
    theta: theta.length === 1 ? only : theta,
    style: text(raw.style, 'rope.style') as RopeParameters['style'],
    ...(raw.rotary_dims !== undefined && { rotaryDims: integer(raw.rotary_dims, 'rotary_dims') }),
  };
}

// Lists of integers are little-endian, as are all processors that the addon is built for: their memory is their wire form. Each is
// copied once on the way in, because nothing says that it is aligned there.
function bytesOf(values: Uint32Array | Int32Array | BigUint64Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

function readU32(bytes: Uint8Array, name: string): Uint32Array {
  if (bytes.length % 4 !== 0) throw corrupt(`${name} is not a list of u32`);
  return new Uint32Array(new Uint8Array(bytes).buffer);
}

function readU64(bytes: Uint8Array, name: string): BigUint64Array {
  if (bytes.length % 8 !== 0) throw corrupt(`${name} is not a list of u64`);
  return new BigUint64Array(new Uint8Array(bytes).buffer);
}
