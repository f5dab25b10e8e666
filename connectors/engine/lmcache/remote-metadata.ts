// LMCache's RemoteMetadata: 32-bit integers, little-endian. Length of the data and memory format, then for each group of layers that
// are alike a dtype and four dimensions. The number of groups stands nowhere: the length of the metadata tells.
import { KvError } from '../../../lib/errors.js';
import type { LmcacheDtype } from '../../../lib/key/lmcache-key.js';

/** LMCache's names of what a tensor's dimensions mean, in the order of their numbers. */
export const MEMORY_FORMATS = ['UNDEFINED', 'KV_2LTD', 'KV_T2D', 'KV_2TD', 'BINARY', 'BINARY_BUFFER', 'KV_MLA_FMT', 'EC_TD', 'HS_TD'] as const;

export type MemoryFormat = (typeof MEMORY_FORMATS)[number];

/** The tensor of layers that are alike. */
export interface TensorGroup {
  /** Undefined for the bytes of LMCache's own codecs. */
  readonly dtype: LmcacheDtype | undefined;
  /** One to four dimensions. */
  readonly shape: readonly number[];
}

/** What LMCache stores about the data of one object. */
export interface RemoteMetadata {
  /** Bytes of the data. */
  readonly length: number;
  readonly format: MemoryFormat;
  /** At least one; their tensors stand one behind the other. */
  readonly groups: readonly TensorGroup[];
}

const FIXED_BYTES = 8;
const GROUP_BYTES = 20;
const DIMENSIONS = 4;
const MAX_LENGTH = 2 ** 31 - 1;

// By their numbers. LMCache reads 1 as half too, but writes 2.
const DTYPES: readonly (LmcacheDtype | undefined)[] = [undefined, 'half', 'half', 'bfloat16', 'float', 'double', 'uint8', 'fp8_e4m3fn', 'fp8_e5m2'];
const DTYPE_BYTES: Readonly<Record<LmcacheDtype, number>> = {
  half: 2,
  bfloat16: 2,
  float: 4,
  double: 8,
  int8: 1,
  uint8: 1,
  int16: 2,
  int32: 4,
  int64: 8,
  bool: 1,
  fp8_e4m3fn: 1,
  fp8_e4m3fnuz: 1,
  fp8_e5m2: 1,
  fp8_e5m2fnuz: 1,
};
const BINARY: ReadonlySet<MemoryFormat> = new Set(['BINARY', 'BINARY_BUFFER']);

/**
 * Reads metadata; the bytes are nothing else. Throws KV_CORRUPT_OBJECT where lengths contradict each other, KV_UNSUPPORTED for a format
 * or dtype that LMCache 0.5.6 does not have.
 */
export function parseRemoteMetadata(bytes: Uint8Array): RemoteMetadata {
  if (bytes.length < FIXED_BYTES + GROUP_BYTES || (bytes.length - FIXED_BYTES) % GROUP_BYTES !== 0) {
    throw corrupt(`its metadata has ${bytes.length} bytes, which is not 8 and 20 for each group of layers`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const length = view.getInt32(0, true);
  const format = MEMORY_FORMATS[view.getInt32(4, true)];
  if (format === undefined) throw unsupported(`memory format ${view.getInt32(4, true)}`);
  const groups: TensorGroup[] = [];
  for (let at = FIXED_BYTES; at < bytes.length; at += GROUP_BYTES) groups.push(parseGroup(view, at, format));
  const metadata = { length, format, groups };
  if (dataBytes(groups) !== length) throw corrupt(`its metadata tells of ${length} bytes and of a tensor of another size`);
  return metadata;
}

/** The bytes that LMCache writes for this metadata. Throws a RangeError where it cannot be written. */
export function packRemoteMetadata({ length, format, groups }: RemoteMetadata): Uint8Array {
  if (length !== dataBytes(groups)) throw new RangeError(`expected \`length\` to be that of the groups, got ${length}`);
  const bytes = new Uint8Array(FIXED_BYTES + GROUP_BYTES * groups.length);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, length, true);
  view.setInt32(4, MEMORY_FORMATS.indexOf(format), true);
  groups.forEach(({ dtype, shape }, i) => {
    const number = DTYPES.lastIndexOf(dtype);
    if (number === -1) throw new RangeError(`expected a dtype that LMCache has a number for, got ${String(dtype)}`);
    [number, ...shape].forEach((value, j) => view.setInt32(FIXED_BYTES + GROUP_BYTES * i + 4 * j, value, true));
  });
  return bytes;
}

/** Bytes of the metadata that stands before the data of an object of `total` bytes, which starts with `head`. Throws KV_CORRUPT_OBJECT. */
export function metadataBytesBefore(head: Uint8Array, total: number): number {
  if (head.length < FIXED_BYTES) throw corrupt(`it has ${total} bytes, too few for its metadata`);
  const bytes = total - new DataView(head.buffer, head.byteOffset, head.length).getInt32(0, true);
  if (bytes < FIXED_BYTES + GROUP_BYTES || bytes > total || (bytes - FIXED_BYTES) % GROUP_BYTES !== 0) {
    throw corrupt(`it has ${total} bytes, which is not what its metadata tells`);
  }
  return bytes;
}

/** Bytes of one element. */
export function dtypeBytes(dtype: LmcacheDtype): number {
  return DTYPE_BYTES[dtype];
}

/** Bytes of the tensors of all groups. Throws KV_CORRUPT_OBJECT for more than metadata can tell of, and for none. */
export function dataBytes(groups: readonly TensorGroup[]): number {
  let sum = 0;
  for (const { dtype, shape } of groups) {
    let bytes = dtype === undefined ? 1 : DTYPE_BYTES[dtype];
    for (const size of shape) {
      if (!Number.isInteger(size) || size < 1) throw corrupt(`its shape is [${shape.join(', ')}]`);
      bytes *= size;
      if (bytes > MAX_LENGTH) throw corrupt(`its shape is [${shape.join(', ')}], which is more than 2 GiB`);
    }
    sum += bytes;
  }
  if (sum > MAX_LENGTH) throw corrupt('its groups are more than 2 GiB');
  return sum;
}

function parseGroup(view: DataView, at: number, format: MemoryFormat): TensorGroup {
  const number = view.getInt32(at, true);
  if (number < 0 || number >= DTYPES.length) throw unsupported(`dtype ${number}`);
  if (number === 0 && !BINARY.has(format)) throw corrupt('its tensor has no dtype');
  const shape = Array.from({ length: DIMENSIONS }, (_, i) => view.getInt32(at + 4 + 4 * i, true));
  // Shorter shapes are filled up with zeros.
  while (shape.length > 1 && shape.at(-1) === 0) shape.pop();
  return { dtype: DTYPES[number], shape };
}

function corrupt(reason: string): KvError {
  return new KvError('KV_CORRUPT_OBJECT', `the LMCache object is damaged: ${reason}`);
}

function unsupported(what: string): KvError {
  return new KvError('KV_UNSUPPORTED', `the LMCache object has ${what}, which LMCache 0.5.6 does not know`);
}
