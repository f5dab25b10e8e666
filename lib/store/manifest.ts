// The manifest of a run: 24 bytes of preamble, then msgpack. docs/format.md is the specification that this file follows.
import { Packr, Unpackr } from 'msgpackr';
import { native } from '../codec/native.js';
import { KvError } from '../errors.js';
import type { PrefixHash } from '../key/hash-chain.js';
import type { RopeParameters } from '../types.js';
import { namespaceDigest, parseKey, runKey, type KvGeometry, type Namespace } from './namespace.js';
import { fieldReader, type FieldReader } from '../container/wire-fields.js';

/** One chunk of a run. */
export interface RunChunk {
  readonly hash: PrefixHash;
  /** Tokens of the sequence that it covers. */
  readonly tokens: number;
  readonly objectBytes: number;
  /**
   * The object's root when the run was put: the XXH3 of its header, which holds the checksums of its sections. A later put of the
   * same chunk by another coder replaces the object and with it the root.
   */
  readonly root: bigint;
}

/** What is stored of a namespace: all but the salt, which is told to nobody. */
export type NamespaceDescription = Omit<Namespace, 'salt'> & { readonly isSalted: boolean };

/** The chunks of one prefix in order. */
export interface RunManifest {
  /** Digest of the namespace. */
  readonly namespace: string;
  readonly description: NamespaceDescription;
  readonly chunks: readonly RunChunk[];
  /** Text stored with the run, such as the metadata of the capture that it came from. */
  readonly metadata: Readonly<Record<string, string>>;
}

const MAGIC = 0x4d52564b; // "KVRM", little-endian
const VERSION = 1;
const PREAMBLE_BYTES = 24;
const FIELDS = ['namespace', 'description', 'hashes', 'tokens', 'object_bytes', 'roots', 'metadata'];

const packr = new Packr({ useRecords: false, variableMapSize: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

/** The manifest as bytes. */
export function packManifest(manifest: RunManifest): Uint8Array {
  const { chunks } = manifest;
  const packed = packr.pack({
    namespace: manifest.namespace,
    description: toWire(manifest.description),
    hashes: chunks.map((chunk) => chunk.hash),
    tokens: chunks.map((chunk) => chunk.tokens),
    object_bytes: chunks.map((chunk) => chunk.objectBytes),
    roots: packRoots(chunks),
    metadata: manifest.metadata,
  });
  const bytes = new Uint8Array(PREAMBLE_BYTES + packed.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint16(4, VERSION, true);
  view.setUint32(8, packed.length, true);
  view.setBigUint64(16, native().xxh3(packed), true);
  bytes.set(packed, PREAMBLE_BYTES);
  return bytes;
}

/** Reads the manifest stored at `key`. Throws KV_CORRUPT_OBJECT, KV_UNSUPPORTED_VERSION, or KV_UNSUPPORTED for a field that this version does not know. */
export function unpackManifest(bytes: Uint8Array, key: string): RunManifest {
  const reader = fieldReader('the manifest');
  const raw = reader.record(decode(checkedPayload(bytes, reader), reader), 'manifest');
  reader.refuseUnknown(raw, FIELDS);
  const description = fromWire(reader.record(raw.description, 'description'), reader);
  const manifest: RunManifest = {
    namespace: reader.text(raw.namespace, 'namespace'),
    description,
    chunks: readChunks(raw, reader),
    metadata: reader.stringRecord(raw.metadata, 'metadata'),
  };
  checkPlace(manifest, key, reader);
  return manifest;
}

function checkedPayload(bytes: Uint8Array, reader: FieldReader): Uint8Array {
  if (bytes.length < PREAMBLE_BYTES) throw reader.corrupt(`it has ${bytes.length} bytes, fewer than its preamble`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== MAGIC) throw reader.corrupt('it does not start with KVRM');
  const version = view.getUint16(4, true);
  if (version !== VERSION) throw new KvError('KV_UNSUPPORTED_VERSION', `the manifest is of version ${version}; this kvreel reads version ${VERSION}`);
  if (view.getUint16(6, true) !== 0 || view.getUint32(12, true) !== 0) throw reader.corrupt('reserved bytes of its preamble are set');
  const payload = bytes.subarray(PREAMBLE_BYTES);
  if (view.getUint32(8, true) !== payload.length || view.getBigUint64(16, true) !== native().xxh3(payload)) throw reader.corrupt('it does not match its checksum');
  return payload;
}

function decode(payload: Uint8Array, reader: FieldReader): unknown {
  try {
    return unpackr.unpack(payload);
  } catch (cause) {
    throw reader.corrupt('it is not msgpack', cause);
  }
}

function readChunks(raw: Record<string, unknown>, reader: FieldReader): RunChunk[] {
  const hashes = reader.list(raw.hashes, 'hashes');
  const tokens = reader.list(raw.tokens, 'tokens');
  const objectBytes = reader.list(raw.object_bytes, 'object_bytes');
  const roots = reader.binary(raw.roots, 'roots');
  if (hashes.length === 0) throw reader.corrupt('it lists no chunk');
  if (tokens.length !== hashes.length || objectBytes.length !== hashes.length || roots.length !== 8 * hashes.length) throw reader.corrupt('its lists differ in length');
  const view = new DataView(roots.buffer, roots.byteOffset, roots.length);
  return hashes.map((hash, i) => ({
    hash: reader.text(hash, 'hashes'),
    tokens: reader.integer(tokens[i], 'tokens'),
    objectBytes: reader.integer(objectBytes[i], 'object_bytes'),
    root: view.getBigUint64(8 * i, true),
  }));
}

function checkPlace(manifest: RunManifest, key: string, reader: FieldReader): void {
  const { namespace, description, chunks } = manifest;
  const isOurs = chunks.every(({ hash }) => parseKey(`runs/${namespace}/${hash}`) !== undefined);
  if (!isOurs || runKey(namespace, chunks.at(-1)?.hash ?? '') !== key) throw reader.corrupt(`it is not the manifest of ${key}`);
  const { isSalted, ...open } = description;
  const digest = digestOf(open, reader);
  if (!isSalted && digest !== namespace) throw reader.corrupt('its namespace is not the one that it describes');
}

function digestOf(namespace: Namespace, reader: FieldReader): string {
  try {
    return namespaceDigest(namespace);
  } catch (cause) {
    if (!(cause instanceof TypeError || cause instanceof RangeError)) throw cause;
    throw reader.corrupt(`its namespace makes no sense: ${cause.message}`, cause);
  }
}

function packRoots(chunks: readonly RunChunk[]): Uint8Array {
  const bytes = new Uint8Array(8 * chunks.length);
  const view = new DataView(bytes.buffer);
  chunks.forEach(({ root }, i) => view.setBigUint64(8 * i, root, true));
  return bytes;
}

function toWire(description: NamespaceDescription): Record<string, unknown> {
  const { model, geometry, variant, adapter, rank, quality, isSalted } = description;
  const { order, dtype, layers, kvHeads, headDim, blockTokens, rope } = geometry;
  return {
    model,
    geometry: {
      order,
      dtype,
      layers,
      kv_heads: kvHeads,
      head_dim: headDim,
      ...(blockTokens !== undefined && { block_tokens: blockTokens }),
      ...(rope && { rope: toWireRope(rope) }),
    },
    ...(variant !== undefined && { variant }),
    ...(adapter !== undefined && { adapter }),
    ...(rank && { rank: [rank.index, rank.of] }),
    quality: quality ?? 'exact',
    is_salted: isSalted,
  };
}

function toWireRope({ theta, style, rotaryDims }: RopeParameters): Record<string, unknown> {
  return { theta: typeof theta === 'number' ? [theta] : [...theta], style, ...(rotaryDims !== undefined && { rotary_dims: rotaryDims }) };
}

function fromWire(raw: Record<string, unknown>, reader: FieldReader): NamespaceDescription {
  reader.refuseUnknown(raw, ['model', 'geometry', 'variant', 'adapter', 'rank', 'quality', 'is_salted']);
  const rank = raw.rank === undefined ? undefined : reader.list(raw.rank, 'rank');
  return {
    model: reader.text(raw.model, 'model'),
    geometry: fromWireGeometry(reader.record(raw.geometry, 'geometry'), reader),
    ...(raw.variant !== undefined && { variant: reader.text(raw.variant, 'variant') }),
    ...(raw.adapter !== undefined && { adapter: reader.text(raw.adapter, 'adapter') }),
    ...(rank && { rank: { index: reader.integer(rank[0], 'rank'), of: reader.integer(rank[1], 'rank') } }),
    quality: reader.text(raw.quality, 'quality'),
    isSalted: reader.boolean(raw.is_salted, 'is_salted'),
  };
}

function fromWireGeometry(raw: Record<string, unknown>, reader: FieldReader): KvGeometry {
  reader.refuseUnknown(raw, ['order', 'dtype', 'layers', 'kv_heads', 'head_dim', 'block_tokens', 'rope']);
  return {
    order: reader.text(raw.order, 'order') as KvGeometry['order'],
    dtype: reader.text(raw.dtype, 'dtype') as KvGeometry['dtype'],
    layers: reader.integer(raw.layers, 'layers'),
    kvHeads: reader.integer(raw.kv_heads, 'kv_heads'),
    headDim: reader.integer(raw.head_dim, 'head_dim'),
    ...(raw.block_tokens !== undefined && { blockTokens: reader.integer(raw.block_tokens, 'block_tokens') }),
    ...(raw.rope !== undefined && { rope: fromWireRope(reader.record(raw.rope, 'rope'), reader) }),
  };
}

function fromWireRope(raw: Record<string, unknown>, reader: FieldReader): RopeParameters {
  const theta = reader.list(raw.theta, 'rope.theta').map((value) => reader.finite(value, 'rope.theta'));
  const [only] = theta;
  if (only === undefined) throw reader.corrupt('rope.theta is empty');
  return {
    theta: theta.length === 1 ? only : theta,
    style: reader.text(raw.style, 'rope.style') as RopeParameters['style'],
    ...(raw.rotary_dims !== undefined && { rotaryDims: reader.integer(raw.rotary_dims, 'rope.rotary_dims') }),
  };
}
