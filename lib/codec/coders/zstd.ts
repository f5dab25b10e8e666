// `zstd`: a general-purpose compressor on the bytes as they came, for comparison. The library is an optional dependency.
import { KvError } from '../../errors.js';
import { tensorBytes } from '../layout.js';
import { native } from '../native.js';
import type { ChunkDescription, ChunkErrors, CodedChunk, Coder } from './coder.js';

const SECTION_BYTES = 2 * 1024 * 1024;
const LEVEL = 3;

type Zstd = Pick<typeof import('@bokuweb/zstd-wasm'), 'compress' | 'decompress' | 'init'>;

let loading: Promise<Zstd> | undefined;

function library(): Promise<Zstd> {
  loading ??= load();
  return loading;
}

async function load(): Promise<Zstd> {
  try {
    const module = await import('@bokuweb/zstd-wasm');
    await module.init();
    return module;
  } catch (cause) {
    throw new KvError('KV_MISSING_DEPENDENCY', 'coder zstd needs the package @bokuweb/zstd-wasm: run `npm install @bokuweb/zstd-wasm`', { cause });
  }
}

// zstd's own worst case: ZSTD_compressBound.
function compressBound(bytes: number): number {
  return bytes + (bytes >>> 8) + 64;
}

function sectionCount(chunk: ChunkDescription): number {
  return Math.ceil(tensorBytes(chunk.layout) / SECTION_BYTES);
}

// Calls `visit` with each section's decoded bytes and the place of those bytes in the tensor.
async function decodeSections(coded: CodedChunk, visit: (bytes: Uint8Array, at: number) => void, cancel: Int32Array): Promise<void> {
  const { decompress } = await library();
  const total = tensorBytes(coded.chunk.layout);
  for (let i = 0; 3 * i < coded.sections.length; i++) {
    if (Atomics.load(cancel, 0) !== 0) throw new KvError('KV_CANCELLED', 'the call was cancelled');
    const [offset, length, checksum] = coded.sections.subarray(3 * i, 3 * i + 3);
    const bytes = coded.bytes.subarray(Number(offset), Number(offset) + Number(length));
    const expected = Math.min(SECTION_BYTES, total - i * SECTION_BYTES);
    if (bytes.length !== Number(length) || native().xxh3(bytes) !== checksum) {
      throw new KvError('KV_CORRUPT_OBJECT', 'the object is damaged: a section does not match its checksum');
    }
    visit(decompressExactly(decompress, bytes, expected), i * SECTION_BYTES);
  }
}

// The size that a zstd frame says it has (RFC 8878, 3.1.1.1); undefined where it says none.
function frameContentSize(bytes: Uint8Array): number | undefined {
  const descriptor = bytes[4] ?? 0;
  const isSingleSegment = (descriptor & 32) !== 0;
  const at = 5 + (isSingleSegment ? 0 : 1) + ([0, 1, 2, 4][descriptor & 3] ?? 0);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < at + 8) return undefined;
  switch (descriptor >> 6) {
    case 0:
      return isSingleSegment ? view.getUint8(at) : undefined;
    case 1:
      return view.getUint16(at, true) + 256;
    case 2:
      return view.getUint32(at, true);
    default:
      return Number(view.getBigUint64(at, true));
  }
}

// The library throws errors of its own, and takes as much memory as a frame says it needs: what it says is compared first.
function decompressExactly(decompress: Zstd['decompress'], bytes: Uint8Array, expected: number): Uint8Array {
  if (frameContentSize(bytes) !== expected) throw new KvError('KV_CORRUPT_OBJECT', 'the object is damaged: a zstd section is not as long as it should be');
  let decoded: Uint8Array;
  try {
    decoded = decompress(bytes);
  } catch (cause) {
    throw new KvError('KV_CORRUPT_OBJECT', 'the object is damaged: a zstd section cannot be decompressed', { cause });
  }
  if (decoded.length !== expected) throw new KvError('KV_CORRUPT_OBJECT', 'the object is damaged: a zstd section has another length than its header says');
  return decoded;
}

/** `zstd`: level 3 on sections of 2 MiB. Single-threaded, on the JavaScript thread: a yardstick, not a road. */
export const zstd: Coder = {
  name: 'zstd',
  hasModel: false,
  refuses: (chunk) => (chunk.rung.name === 'exact' ? undefined : 'it restores every bit, so its only rung is exact'),
  bound: (chunk) => ({ sections: sectionCount(chunk) * compressBound(SECTION_BYTES), model: 0 }),
  sectionCount,
  sectionsOf: (chunk) => Array.from({ length: sectionCount(chunk) }, (_, i) => i),
  async encode(chunk, tensor, out, call) {
    const { compress } = await library();
    const sections = new BigUint64Array(3 * sectionCount(chunk));
    let offset = 0;
    for (let i = 0; i < sectionCount(chunk); i++) {
      if (Atomics.load(call.cancel, 0) !== 0) throw new KvError('KV_CANCELLED', 'the call was cancelled');
      const bytes = compress(tensor.slice(i * SECTION_BYTES, (i + 1) * SECTION_BYTES), LEVEL);
      out.set(bytes, offset);
      sections.set([BigInt(offset), BigInt(bytes.length), native().xxh3(bytes)], 3 * i);
      offset += bytes.length;
    }
    return { model: new Uint8Array(0), sections };
  },
  decode: (coded, _target, tensor, call) => decodeSections(coded, (bytes, at) => tensor.set(bytes, at), call.cancel),
  async verify(coded, original, call): Promise<ChunkErrors> {
    let identical = true;
    await decodeSections(coded, (bytes, at) => (identical &&= Buffer.compare(bytes, original.subarray(at, at + bytes.length)) === 0), call.cancel);
    return identical ? { identical, maxAbsolute: 0, relativeRms: 0 } : { identical, maxAbsolute: Infinity, relativeRms: Infinity };
  },
};
