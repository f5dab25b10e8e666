// What clients may ask, as JSON says it. Every function throws KV_INVALID_INPUT for what cannot be.
import { isPrefixHash } from '../../../lib/store/namespace.js';
import type { Span } from '../../../lib/store/part.js';
import { integer, list, optional, record, text, type JsonRecord } from './fields.js';
import { invalid } from './wire-error.js';

/** Hashes or entries of one call. */
export const MAX_ENTRIES = 65_536;
/** Bytes of one entry: what one piece of memory may have in every Node that this runs on. */
const MAX_TENSOR_BYTES = 2 ** 31;
const MAX_MS = 2 ** 31 - 1;
const MAX_POSITION = 0xffffffff;

/** Where an entry's bytes are, in a segment. */
export interface SegmentRange {
  readonly id: string;
  readonly generation: number;
  readonly offset: number;
}

export interface HashesRequest {
  readonly space: string;
  readonly hashes: readonly string[];
  readonly deadlineMs?: number;
}

export interface LookupRequest {
  readonly space: string;
  /** Not checked yet: they come by the thousand, and one that is known is one. */
  readonly hashes: readonly unknown[];
  readonly waitMs: number;
}

export interface FetchEntry {
  readonly hash: string;
  readonly bytes: number;
  readonly segment?: SegmentRange;
}

export interface FetchRequest {
  readonly space: string;
  readonly entries: readonly FetchEntry[];
  readonly layers?: Span;
  readonly deadlineMs?: number;
}

export interface StoreEntry extends FetchEntry {
  readonly start: number;
}

export interface StoreRequest {
  readonly space: string;
  readonly entries: readonly StoreEntry[];
  readonly deadlineMs?: number;
}

const LOOKUP_FIELDS = new Set(['space', 'hashes', 'wait_ms']);

export function readLookup(value: unknown): LookupRequest {
  const request = record(value, 'the request', LOOKUP_FIELDS);
  return {
    space: text(request.space, 'space'),
    hashes: list(request.hashes, 'hashes', MAX_ENTRIES),
    waitMs: optional(request.wait_ms, (given) => integer(given, 'wait_ms', 0, MAX_MS)) ?? 0,
  };
}

/** Of exists, prefetch and delete; `fields` are those beside space and hashes. */
export function readHashes(value: unknown, fields: readonly 'deadline_ms'[] = []): HashesRequest {
  const request = record(value, 'the request', new Set(['space', 'hashes', ...fields]));
  return { space: text(request.space, 'space'), hashes: list(request.hashes, 'hashes', MAX_ENTRIES).map(readHash), ...deadline(request) };
}

const FETCH_FIELDS = new Set(['space', 'entries', 'layers', 'deadline_ms']);
const SEGMENT_FIELDS = ['segment', 'generation', 'offset'];
const FETCH_ENTRY_FIELDS = new Set(['hash', 'bytes', ...SEGMENT_FIELDS]);

export function readFetch(value: unknown): FetchRequest {
  const request = record(value, 'the request', FETCH_FIELDS);
  const layers = optional(request.layers, readLayers);
  return {
    space: text(request.space, 'space'),
    entries: list(request.entries, 'entries', MAX_ENTRIES).map((given) => fetchEntry(record(given, 'an entry', FETCH_ENTRY_FIELDS))),
    ...(layers && { layers }),
    ...deadline(request),
  };
}

const STORE_FIELDS = new Set(['space', 'entries', 'deadline_ms']);
const STORE_ENTRY_FIELDS = new Set(['hash', 'bytes', 'start', ...SEGMENT_FIELDS]);

/** A store: with segments if its body is JSON, without if its entries follow as frames. */
export function readStore(value: unknown, isInSegments: boolean): StoreRequest {
  const request = record(value, 'the request', STORE_FIELDS);
  const entries = list(request.entries, 'entries', MAX_ENTRIES).map((given) => {
    const entry = record(given, 'an entry', STORE_ENTRY_FIELDS);
    const read = { ...fetchEntry(entry), start: optional(entry.start, (start) => integer(start, 'start', 0, MAX_POSITION)) ?? 0 };
    if (isInSegments && read.segment === undefined) throw invalid('expected each entry to name its segment; to send the bytes, use content type application/x-kvreel-frames');
    if (!isInSegments && read.segment !== undefined) throw invalid('expected no segment in a body of frames; to use segments, send JSON');
    return read;
  });
  return { space: text(request.space, 'space'), entries, ...deadline(request) };
}

function fetchEntry(entry: JsonRecord): FetchEntry {
  const segment = optional(entry.segment, (id) => ({
    id: text(id, 'segment'),
    generation: integer(entry.generation, 'generation', 0),
    offset: optional(entry.offset, (offset) => integer(offset, 'offset', 0)) ?? 0,
  }));
  if (segment === undefined && (entry.generation !== undefined || entry.offset !== undefined)) throw invalid('expected `segment` beside generation and offset');
  return { hash: readHash(entry.hash), bytes: integer(entry.bytes, 'bytes', 0, MAX_TENSOR_BYTES), ...(segment && { segment }) };
}

function readLayers(value: unknown): Span {
  const [begin, end, ...more] = list(value, 'layers', 2);
  if (more.length > 0) throw invalid('expected layers to be [begin, end]');
  const span: Span = [integer(begin, 'the begin of layers', 0), integer(end, 'the end of layers', 1)];
  if (span[0] >= span[1]) throw invalid(`expected layers to begin before they end, got [${span[0]}, ${span[1]}]`);
  return span;
}

function deadline(request: JsonRecord): { readonly deadlineMs?: number } {
  const deadlineMs = optional(request.deadline_ms, (given) => integer(given, 'deadline_ms', 1, MAX_MS));
  return deadlineMs === undefined ? {} : { deadlineMs };
}

export function readHash(value: unknown): string {
  if (!isPrefixHash(value)) throw invalid('expected a hash to be 1 to 128 lower-case hex digits');
  return value;
}
