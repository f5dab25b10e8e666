// The manifest of a session: the frame of its state and what its chunks are found by. It is put last and replaces the one before.
//
//   u32 magic "KVLS", u32 version, 32 bytes SHA-256 of the rest, msgpack
import { createHash } from 'node:crypto';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { Packr, Unpackr } from 'msgpackr';
import { fieldReader, type FieldReader } from '../../../lib/container/wire-fields.js';
import { KvError } from '../../../lib/errors.js';
import type { Fingerprint } from './fingerprint.js';

/** One chunk of a session as stored. */
export interface SessionChunk {
  /** SHA-256 of its rows. */
  readonly digest: Uint8Array;
  readonly objectBytes: number;
}

/** All of a session but its chunks. */
export interface SessionManifest {
  readonly name: string;
  readonly fingerprint: Fingerprint;
  /** Rung of the chunks. */
  readonly rung: string;
  readonly tokens: number;
  readonly stateBytes: number;
  /** False where the state is kept as bytes: `opaqueState`. */
  readonly isUnderstood: boolean;
  readonly frame: Uint8Array;
  readonly chunkTokens: number;
  /** In the order of `planChunks`. */
  readonly chunks: readonly SessionChunk[];
  /** Text stored with the session. */
  readonly metadata: Readonly<Record<string, string>>;
}

const MAGIC = 0x534c564b; // "KVLS", little-endian
const VERSION = 1;
const DIGEST_BYTES = 32;
const PREAMBLE_BYTES = 8 + DIGEST_BYTES;
const FIELDS = ['name', 'fingerprint', 'rung', 'tokens', 'state_bytes', 'is_understood', 'frame', 'frame_bytes', 'chunk_tokens', 'digests', 'object_bytes', 'metadata'];
const FINGERPRINT_FIELDS = ['model', 'adapter', 'llama_cpp', 'key_type', 'value_type', 'flash_attention', 'sequences', 'is_stretched'];
/** A frame has 16 bytes a token: room for a context of 16 million. */
const MAX_FRAME_BYTES = 256 << 20;

const packr = new Packr({ useRecords: false, variableMapSize: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

/** The manifest as bytes. */
export function packSession(manifest: SessionManifest): Uint8Array {
  const { fingerprint, chunks, frame } = manifest;
  const payload = packr.pack({
    name: manifest.name,
    fingerprint: {
      model: fingerprint.model,
      adapter: fingerprint.adapter,
      llama_cpp: fingerprint.llamaCpp,
      key_type: fingerprint.keyType,
      value_type: fingerprint.valueType,
      flash_attention: fingerprint.flashAttention,
      sequences: fingerprint.sequences,
      is_stretched: fingerprint.isStretched,
    },
    rung: manifest.rung,
    tokens: manifest.tokens,
    state_bytes: manifest.stateBytes,
    is_understood: manifest.isUnderstood,
    frame: deflateRawSync(frame, { level: 1 }),
    frame_bytes: frame.length,
    chunk_tokens: manifest.chunkTokens,
    digests: Buffer.concat(chunks.map(({ digest }) => digest)),
    object_bytes: chunks.map(({ objectBytes }) => objectBytes),
    metadata: manifest.metadata,
  });
  const head = Buffer.alloc(8);
  head.writeUInt32LE(MAGIC, 0);
  head.writeUInt32LE(VERSION, 4);
  return new Uint8Array(Buffer.concat([head, sha256(payload), payload]));
}

/** Reads a manifest. Throws KV_CORRUPT_OBJECT, KV_UNSUPPORTED_VERSION, or KV_UNSUPPORTED for a field that this version does not know. */
export function unpackSession(bytes: Uint8Array): SessionManifest {
  const reader = fieldReader('the manifest of the session');
  const raw = reader.record(decode(checkedPayload(bytes, reader), reader), 'manifest');
  reader.refuseUnknown(raw, FIELDS);
  return {
    name: reader.text(raw.name, 'name'),
    fingerprint: fingerprintOf(reader.record(raw.fingerprint, 'fingerprint'), reader),
    rung: reader.text(raw.rung, 'rung'),
    tokens: reader.integer(raw.tokens, 'tokens'),
    stateBytes: reader.integer(raw.state_bytes, 'state_bytes'),
    isUnderstood: reader.boolean(raw.is_understood, 'is_understood'),
    frame: inflate(reader.binary(raw.frame, 'frame'), reader.integer(raw.frame_bytes, 'frame_bytes'), reader),
    chunkTokens: positive(reader.integer(raw.chunk_tokens, 'chunk_tokens'), 'chunk_tokens', reader),
    chunks: chunksOf(reader.binary(raw.digests, 'digests'), reader.list(raw.object_bytes, 'object_bytes'), reader),
    metadata: reader.stringRecord(raw.metadata, 'metadata'),
  };
}

/** SHA-256 of some bytes. */
export function sha256(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}

function checkedPayload(bytes: Uint8Array, reader: FieldReader): Uint8Array {
  if (bytes.length < PREAMBLE_BYTES) throw reader.corrupt(`it has ${bytes.length} bytes, fewer than its preamble`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== MAGIC) throw reader.corrupt('it does not start with KVLS');
  const version = view.getUint32(4, true);
  if (version !== VERSION) throw new KvError('KV_UNSUPPORTED_VERSION', `the manifest of the session is of version ${version}; this kvreel reads version ${VERSION}`);
  const payload = bytes.subarray(PREAMBLE_BYTES);
  if (Buffer.compare(sha256(payload), bytes.subarray(8, PREAMBLE_BYTES)) !== 0) throw reader.corrupt('it does not match its checksum');
  return payload;
}

function decode(payload: Uint8Array, reader: FieldReader): unknown {
  try {
    return unpackr.unpack(payload);
  } catch (cause) {
    throw reader.corrupt('it is not msgpack', cause);
  }
}

function inflate(packed: Uint8Array, bytes: number, reader: FieldReader): Uint8Array {
  if (bytes > MAX_FRAME_BYTES) throw reader.corrupt(`its frame has ${bytes} bytes`);
  try {
    const frame = inflateRawSync(packed, { maxOutputLength: Math.max(1, bytes) });
    if (frame.length === bytes) return frame;
  } catch (cause) {
    throw reader.corrupt('its frame is not deflated', cause);
  }
  throw reader.corrupt('its frame is shorter than it says');
}

function fingerprintOf(raw: Record<string, unknown>, reader: FieldReader): Fingerprint {
  reader.refuseUnknown(raw, FINGERPRINT_FIELDS);
  return {
    model: reader.text(raw.model, 'model'),
    adapter: reader.text(raw.adapter, 'adapter'),
    llamaCpp: reader.text(raw.llama_cpp, 'llama_cpp'),
    keyType: reader.integer(raw.key_type, 'key_type'),
    valueType: reader.integer(raw.value_type, 'value_type'),
    flashAttention: reader.text(raw.flash_attention, 'flash_attention'),
    sequences: reader.integer(raw.sequences, 'sequences'),
    isStretched: reader.boolean(raw.is_stretched, 'is_stretched'),
  };
}

function chunksOf(digests: Uint8Array, objectBytes: readonly unknown[], reader: FieldReader): SessionChunk[] {
  if (digests.length !== DIGEST_BYTES * objectBytes.length) throw reader.corrupt('its lists differ in length');
  return objectBytes.map((bytes, i) => ({ digest: digests.subarray(DIGEST_BYTES * i, DIGEST_BYTES * (i + 1)), objectBytes: reader.integer(bytes, 'object_bytes') }));
}

function positive(value: number, name: string, reader: FieldReader): number {
  if (value === 0) throw reader.corrupt(`${name} is 0`);
  return value;
}
