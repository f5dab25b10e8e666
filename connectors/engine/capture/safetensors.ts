// The .safetensors format: 8 bytes of header length, a JSON header, then the tensors' bytes. Read strictly: the tensors must cover the
// data from its first byte to its last without gap or overlap, as the format says; every other header is refused.
import { KvError } from '../../../lib/errors.js';

/** Bytes before the header. */
export const LENGTH_BYTES = 8;
/** Longest header that is read, as in the reference implementation. */
export const MAX_HEADER_BYTES = 100_000_000;

const ELEMENT_BYTES: Readonly<Record<string, number>> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
};

/** One tensor of a file; its bytes are [begin, end) of the data after the header. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** What a file's header says. */
export interface Directory {
  /** In the order of their bytes. */
  readonly tensors: readonly TensorEntry[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly dataBytes: number;
}

/** A .safetensors file in memory. */
export interface SafetensorsFile {
  /** What it is called in messages. */
  readonly name: string;
  readonly header: Uint8Array;
  readonly directory: Directory;
  readonly data: Uint8Array;
}

/** Reads a header. Throws KV_INVALID_INPUT, naming `file` and what is wrong with it. */
export function parseDirectory(header: Uint8Array, file: string): Directory {
  const raw = parseJson(header, file);
  const { __metadata__: metadata = {}, ...entries } = raw;
  if (!isRecord(metadata)) throw invalid(file, '`__metadata__` is not a map of strings');
  for (const [name, text] of Object.entries(metadata)) {
    if (typeof text !== 'string') throw invalid(file, `the metadata \`${name}\` is not a string`);
  }
  const tensors = Object.entries(entries).map(([name, entry]) => parseEntry(name, entry, file));
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let dataBytes = 0;
  for (const { name, begin, end } of tensors) {
    if (begin !== dataBytes) throw invalid(file, `tensor \`${name}\` begins at byte ${begin} where the tensor before it ends at ${dataBytes}: they overlap or leave a gap`);
    dataBytes = end;
  }
  return { tensors, metadata: metadata as Record<string, string>, dataBytes };
}

/** A header for these tensors, padded to a multiple of 8 bytes as the reference implementation does. */
export function formatHeader(tensors: readonly TensorEntry[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const entries = tensors.map(({ name, dtype, shape, begin, end }) => [name, { dtype, shape, data_offsets: [begin, end] }] as const);
  const json = JSON.stringify(Object.fromEntries([['__metadata__', metadata], ...entries]));
  const bytes = Buffer.byteLength(json);
  return Buffer.from(json + ' '.repeat((8 - (bytes % 8)) % 8));
}

/** Bytes of one element; undefined for a dtype that the format does not have. */
export function elementBytesOf(dtype: string): number | undefined {
  return Object.hasOwn(ELEMENT_BYTES, dtype) ? ELEMENT_BYTES[dtype] : undefined;
}

/** The error for a file that is not as it should be. */
export function invalid(file: string, finding: string, cause?: unknown): KvError {
  return new KvError('KV_INVALID_INPUT', `${file} cannot be read: ${finding}; make the file again or name another`, { cause });
}

function parseJson(header: Uint8Array, file: string): Record<string, unknown> {
  let text: string;
  let parsed: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(header);
    parsed = JSON.parse(text);
  } catch (cause) {
    throw invalid(file, 'its header is not JSON, so this is no safetensors file or a damaged one', cause);
  }
  if (!isRecord(parsed)) throw invalid(file, 'its header is not a JSON object, so this is no safetensors file');
  const duplicate = duplicateName(text);
  if (duplicate !== undefined) throw invalid(file, `its header has the name ${duplicate} twice`);
  return parsed;
}

function parseEntry(name: string, entry: unknown, file: string): TensorEntry {
  if (!isRecord(entry)) throw invalid(file, `tensor \`${name}\` is not described by a map`);
  const { dtype, shape, data_offsets: offsets, ...unknown } = entry;
  const [unknownField] = Object.keys(unknown);
  if (unknownField !== undefined) throw invalid(file, `tensor \`${name}\` has the unknown field \`${unknownField}\``);
  const elementBytes = typeof dtype === 'string' ? elementBytesOf(dtype) : undefined;
  if (typeof dtype !== 'string' || elementBytes === undefined) {
    throw invalid(file, `tensor \`${name}\` has the dtype ${JSON.stringify(dtype)}; known are ${Object.keys(ELEMENT_BYTES).join(', ')}`);
  }
  if (!isListOfSizes(shape)) throw invalid(file, `the shape of tensor \`${name}\` is not a list of whole numbers from 0: ${JSON.stringify(shape)}`);
  if (!isListOfSizes(offsets) || offsets.length !== 2) throw invalid(file, `the data_offsets of tensor \`${name}\` are not two whole numbers: ${JSON.stringify(offsets)}`);
  const [begin = 0, end = 0] = offsets;
  const bytes = shape.reduce((product, size) => product * size, elementBytes);
  if (!Number.isSafeInteger(bytes) || end - begin !== bytes) {
    throw invalid(file, `tensor \`${name}\` of dtype ${dtype} and shape [${shape.join(', ')}] does not take the ${end - begin} bytes that its data_offsets say`);
  }
  return { name, dtype, shape, begin, end };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isListOfSizes(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

// The first name that an object of valid JSON has twice, as it stands there: JSON.parse keeps the last one and says nothing.
function duplicateName(json: string): string | undefined {
  const open: Set<string>[] = [];
  const colon = /\s*:/y;
  for (let at = 0; at < json.length; at++) {
    const character = json[at];
    if (character === '{') open.push(new Set());
    else if (character === '}') open.pop();
    if (character !== '"') continue;
    const end = stringEnd(json, at);
    const literal = json.slice(at, end);
    at = end - 1;
    colon.lastIndex = end;
    if (!colon.test(json)) continue;
    const name = JSON.parse(literal) as string;
    const names = open.at(-1);
    if (names?.has(name)) return literal;
    names?.add(name);
  }
  return undefined;
}

// One past the closing quote of the string literal that begins at `at`.
function stringEnd(json: string, at: number): number {
  for (let end = at + 1; end < json.length; end++) {
    if (json[end] === '\\') end++;
    else if (json[end] === '"') return end + 1;
  }
  return json.length;
}
