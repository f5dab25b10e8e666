// An object as stored: preamble, header, sections. docs/format.md is the specification that this file follows.
import { native } from '../codec/native.js';
import { KvError } from '../errors.js';
import { packHeader, unpackHeader, type ObjectHeader } from './header.js';

/** Bytes before the header. */
export const PREAMBLE_BYTES = 32;
/** The version of the format that is written; the only one that is read. */
export const FORMAT_VERSION = 1;

const MAGIC = 0x4c52564b; // "KVRL", little-endian
const MAX_HEADER_BYTES = 64 * 1024 * 1024;

/** The fixed start of an object. */
export interface Preamble {
  readonly headerBytes: number;
  readonly headerChecksum: bigint;
  readonly objectBytes: number;
}

/** A section's place inside its object, and its checksum: the triple that the addon reads. */
export type SectionTable = BigUint64Array;

/** Preamble and header, ready to be put before `sectionBytes` bytes of sections. */
export function packObjectStart(header: ObjectHeader, sectionBytes: number): Uint8Array {
  const packed = packHeader(header);
  if (packed.length > MAX_HEADER_BYTES) throw new RangeError(`expected the header to take at most ${MAX_HEADER_BYTES} bytes, it takes ${packed.length}`);
  const start = new Uint8Array(PREAMBLE_BYTES + packed.length);
  const view = new DataView(start.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint16(4, FORMAT_VERSION, true);
  view.setUint32(8, packed.length, true);
  view.setBigUint64(16, native().xxh3(packed), true);
  view.setBigUint64(24, BigInt(start.length + sectionBytes), true);
  start.set(packed, PREAMBLE_BYTES);
  return start;
}

/** Reads a preamble. Rejects with KV_CORRUPT_OBJECT, or KV_UNSUPPORTED_VERSION. */
export function readPreamble(bytes: Uint8Array): Preamble {
  if (bytes.length < PREAMBLE_BYTES) throw new KvError('KV_CORRUPT_OBJECT', `the object is damaged: it has ${bytes.length} bytes, fewer than its preamble`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== MAGIC) throw new KvError('KV_CORRUPT_OBJECT', 'this is not a kvreel object: it does not start with KVRL');
  const version = view.getUint16(4, true);
  if (version !== FORMAT_VERSION) {
    throw new KvError('KV_UNSUPPORTED_VERSION', `the object is of format version ${version}; this kvreel reads version ${FORMAT_VERSION}`);
  }
  if (view.getUint16(6, true) !== 0 || view.getUint32(12, true) !== 0) throw new KvError('KV_CORRUPT_OBJECT', 'the object is damaged: reserved bytes of its preamble are set');
  const headerBytes = view.getUint32(8, true);
  const objectBytes = view.getBigUint64(24, true);
  if (headerBytes > MAX_HEADER_BYTES || objectBytes < BigInt(PREAMBLE_BYTES + headerBytes) || objectBytes > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new KvError('KV_CORRUPT_OBJECT', 'the object is damaged: the lengths in its preamble contradict each other');
  }
  return { headerBytes, headerChecksum: view.getBigUint64(16, true), objectBytes: Number(objectBytes) };
}

/** Reads the header bytes that a preamble announces, checksum first. */
export function readHeader(preamble: Preamble, bytes: Uint8Array): ObjectHeader {
  if (bytes.length !== preamble.headerBytes || native().xxh3(bytes) !== preamble.headerChecksum) {
    throw new KvError('KV_CORRUPT_OBJECT', 'the object is damaged: its header does not match its checksum');
  }
  const header = unpackHeader(bytes);
  const sections = header.lengths.reduce((sum, length) => sum + length, 0);
  if (PREAMBLE_BYTES + preamble.headerBytes + sections !== preamble.objectBytes) {
    throw new KvError('KV_CORRUPT_OBJECT', 'the object is damaged: its sections do not add up to its length');
  }
  return header;
}

/** Preamble and header of a whole object in memory, whose length has to be what the preamble says. */
export function readObject(object: Uint8Array): { readonly header: ObjectHeader; readonly sectionStart: number } {
  const preamble = readPreamble(object);
  if (preamble.objectBytes !== object.length) {
    throw new KvError('KV_CORRUPT_OBJECT', `the object is damaged: it should have ${preamble.objectBytes} bytes and has ${object.length}`);
  }
  const sectionStart = PREAMBLE_BYTES + preamble.headerBytes;
  return { header: readHeader(preamble, object.subarray(PREAMBLE_BYTES, sectionStart)), sectionStart };
}

/** Offsets (from the first section), lengths and checksums of all sections. */
export function sectionTable(header: ObjectHeader): SectionTable {
  const table = new BigUint64Array(3 * header.lengths.length);
  // In halves of 32 bits, low half first: a BigInt for each number would take longer than the rest of reading a header.
  const halves = new Uint32Array(table.buffer);
  const checksums = new Uint32Array(header.checksums.buffer, header.checksums.byteOffset, 2 * header.checksums.length);
  let offset = 0;
  header.lengths.forEach((length, i) => {
    halves[6 * i] = offset % 2 ** 32;
    halves[6 * i + 1] = offset / 2 ** 32;
    halves[6 * i + 2] = length;
    halves[6 * i + 4] = checksums[2 * i] ?? 0;
    halves[6 * i + 5] = checksums[2 * i + 1] ?? 0;
    offset += length;
  });
  return table;
}
