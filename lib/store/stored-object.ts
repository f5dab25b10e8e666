// Reading objects through a connector, whole or in part. What is read may be hostile: lengths are checked before memory is taken.
import type { ChunkDescription, Coder } from '../codec/coders/coder.js';
import { checkedChunk } from '../codec/codec.js';
import { PREAMBLE_BYTES, readHeader, readObject, readPreamble, sectionTable, type SectionTable } from '../container/object.js';
import type { ObjectHeader } from '../container/header.js';
import { KvError } from '../errors.js';
import type { BufferPool } from './buffer-pool.js';
import type { ByteRange, CallOptions, StorageConnector } from './connector.js';
import { movedTable, sectionRanges } from './part.js';

/** Where an object lies. */
export interface ObjectPlace extends CallOptions {
  readonly connector: StorageConnector;
  readonly key: string;
}

/** An object's header, checked for sense, and the way to its sections. */
export interface OpenObject {
  readonly objectBytes: number;
  readonly header: ObjectHeader;
  readonly chunk: ChunkDescription;
  readonly coder: Coder;
  /** Lends the bytes of the wanted sections and the table that finds them there. */
  sections<T>(wanted: readonly number[], work: (table: SectionTable, bytes: Uint8Array) => Promise<T>): Promise<T>;
}

/** Reads a whole object, into `buffer` if it fits, and opens it. Undefined if there is none. */
export async function openWhole(place: ObjectPlace, buffer: Uint8Array): Promise<OpenObject | undefined> {
  const object = await readWhole(place, buffer);
  return object && openBytes(object);
}

/** Opens an object in memory, which must not change until the work on it has settled. */
export function openBytes(object: Uint8Array): OpenObject {
  const { header, sectionStart } = readObject(object);
  const table = sectionTable(header);
  const bytes = object.subarray(sectionStart);
  return { objectBytes: object.length, header, ...checkedChunk(header), sections: (wanted, work) => work(pick(table, wanted), bytes) };
}

/** Reads an object's preamble and header, and later the sections that are asked for, each by range. Undefined if there is none. */
export async function openByRange(place: ObjectPlace, pool: BufferPool): Promise<OpenObject | undefined> {
  const start = await getRange(place, { offset: 0, length: PREAMBLE_BYTES });
  if (start === undefined) return undefined;
  const preamble = readPreamble(start);
  const headerBytes = await getRange(place, { offset: PREAMBLE_BYTES, length: preamble.headerBytes });
  if (headerBytes === undefined) return undefined;
  const header = readHeader(preamble, headerBytes);
  const checked = checkedChunk(header);
  const table = sectionTable(header);
  const sectionStart = PREAMBLE_BYTES + preamble.headerBytes;
  return {
    objectBytes: preamble.objectBytes,
    header,
    ...checked,
    async sections(wanted, work) {
      const ranges = sectionRanges(table, wanted);
      const total = ranges.reduce((sum, { length }) => sum + length, 0);
      // The lengths come from the header; no coder needs more room than its own bound.
      if (total > checked.coder.bound(checked.chunk).sections) throw new KvError('KV_CORRUPT_OBJECT', 'the object is damaged: its sections are longer than its coder makes them');
      return pool.use(total, async (buffer) => {
        await readRanges(place, sectionStart, ranges, buffer);
        return work(movedTable(table, wanted, ranges), buffer.subarray(0, total));
      });
    },
  };
}

// Asks for as much as the buffer holds: one trip where the object fits, and the connector's answer, not the object's word, says how
// much memory the rest takes.
async function readWhole({ connector, key, ...options }: ObjectPlace, buffer: Uint8Array): Promise<Uint8Array | undefined> {
  if (!connector.supports.range) return connector.get(key, options);
  const front = await connector.get(key, { ...options, range: { offset: 0, length: buffer.length }, into: buffer });
  if (front === undefined || front.length < buffer.length) return front;
  const { objectBytes } = readPreamble(front);
  if (objectBytes <= front.length) return front;
  const rest = await connector.get(key, { ...options, range: { offset: front.length, length: objectBytes - front.length } });
  if (rest === undefined) return undefined;
  const object = new Uint8Array(front.length + rest.length);
  object.set(front);
  object.set(rest, front.length);
  return object;
}

async function readRanges(place: ObjectPlace, sectionStart: number, ranges: readonly ByteRange[], buffer: Uint8Array): Promise<void> {
  let at = 0;
  const reads = ranges.map(({ offset, length }) => {
    const into = buffer.subarray(at, at + length);
    at += length;
    return getRange(place, { offset: sectionStart + offset, length }, into);
  });
  // All of them, also where one fails: they write into the buffer, which is lent to others next.
  for (const result of await Promise.allSettled(reads)) {
    if (result.status === 'rejected') throw result.reason;
    if (result.value === undefined) throw new KvError('KV_CORRUPT_OBJECT', `the object ${place.key} was deleted while it was read`);
  }
}

async function getRange({ connector, key, ...options }: ObjectPlace, range: ByteRange, into?: Uint8Array): Promise<Uint8Array | undefined> {
  const bytes = await connector.get(key, { ...options, range, ...(into && { into }) });
  if (bytes !== undefined && bytes.length !== range.length) {
    throw new KvError('KV_CORRUPT_OBJECT', `the object ${key} is damaged: it ends at byte ${range.offset + bytes.length}, inside its header or sections`);
  }
  return bytes;
}

function pick(table: SectionTable, wanted: readonly number[]): SectionTable {
  const picked = new BigUint64Array(3 * wanted.length);
  wanted.forEach((index, i) => picked.set(table.subarray(3 * index, 3 * index + 3), 3 * i));
  return picked;
}
