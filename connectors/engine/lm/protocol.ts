// The wire of LMCache's lm://: 32-bit integers, little-endian, and a key filled up with spaces. One request after the other on a connection.
// A put has its data behind it and gets no answer; every other request gets one.
import { Buffer } from 'node:buffer';
import { KvError } from '../../../lib/errors.js';
import { parseEngineKey, type LmcacheName } from '../lmcache/key-text.js';
import { packRemoteMetadata, parseRemoteMetadata, type RemoteMetadata } from '../lmcache/remote-metadata.js';

/** Name of a chunk, as LMCache in the engine's process has them. */
export type EngineName = LmcacheName & { readonly kind: 'engine' };

/** One request. What is well-formed but cannot be served says why as `refusal`. */
export type LmRequest =
  | { readonly command: 'put'; readonly length: number; readonly name: EngineName; readonly metadata: RemoteMetadata }
  | { readonly command: 'put'; readonly length: number; readonly refusal: string }
  | { readonly command: 'get' | 'exist'; readonly name: EngineName }
  | { readonly command: 'get' | 'exist'; readonly refusal: string }
  | { readonly command: 'list' | 'health' };

/** Bytes that are no request: where the next one begins nobody knows. */
export class LmProtocolError extends Error {
  override readonly name = 'LmProtocolError';
}

const INTEGERS = 9;
const KEY_BYTES = 150;
/** Bytes of a request without the data of a put. */
export const REQUEST_BYTES = 4 * INTEGERS + KEY_BYTES;
/** Bytes of an answer without data. */
export const REPLY_BYTES = 4 * INTEGERS;

const COMMANDS = [undefined, 'put', 'get', 'exist', 'list', 'health'] as const;
const SUCCESS = 200;
const FAILURE = 400;
// What LMCache's own server puts into an answer that tells of no tensor: KV_2LTD and half.
const NO_TENSOR = [1, 2] as const;
const decoder = new TextDecoder('utf-8', { fatal: true });

/** Reads a request of `REQUEST_BYTES` bytes. Throws an LmProtocolError for a command that there is none of, and for a length below 0. */
export function parseRequest(bytes: Uint8Array): LmRequest {
  const [number = 0, length = 0, format = 0, dtype = 0, , ...shape] = integersOf(bytes);
  const command = COMMANDS[number];
  if (command === undefined) throw new LmProtocolError(`expected a command from 1 to ${COMMANDS.length - 1}, got ${number}`);
  if (command === 'list' || command === 'health') return { command };
  const key = nameOf(bytes.subarray(4 * INTEGERS));
  if (command !== 'put') return typeof key === 'string' ? { command, refusal: key } : { command, name: key };
  if (length < 0) throw new LmProtocolError(`expected a length of at least 0, got ${length}`);
  if (typeof key === 'string') return { command, length, refusal: key };
  const metadata = metadataOf([length, format, dtype, ...shape]);
  return typeof metadata === 'string' ? { command, length, refusal: metadata } : { command, length, name: key, metadata };
}

/** The answer that tells whether something is so, without data. */
export function packAnswer(isSo: boolean): Uint8Array {
  return pack([isSo ? SUCCESS : FAILURE, 0, ...NO_TENSOR, 0, 0, 0, 0, 0]);
}

/** The answer that has data behind it, as many as its metadata says. */
export function packTensorAnswer(metadata: RemoteMetadata): Uint8Array {
  const answer = pack([SUCCESS, 0, 0, 0, 0, 0, 0, 0, 0]);
  // Length, format, dtype and four dimensions, as metadata has them.
  answer.set(packRemoteMetadata(metadata), 4);
  return answer;
}

function metadataOf(integers: readonly number[]): RemoteMetadata | string {
  try {
    return parseRemoteMetadata(pack(integers));
  } catch (error) {
    if (error instanceof KvError) return error.message;
    throw error;
  }
}

// The name, or why there is none.
function nameOf(bytes: Uint8Array): EngineName | string {
  const text = textOf(bytes);
  if (text === undefined) return 'its key is no UTF-8 text';
  // LMCache counts characters and cuts bytes: two tenants' keys may be one after that.
  if (text.length < KEY_BYTES && bytes.at(-1) !== 0x20) return `its key may have been cut at ${KEY_BYTES} bytes; shorten the model's name or the tags`;
  const name = parseEngineKey(text.trim());
  if (name?.kind !== 'engine') return 'its key is none that LMCache 0.5.6 makes';
  return name.parts.workerId < name.parts.worldSize ? name : `its key is of worker ${name.parts.workerId} of ${name.parts.worldSize}, counted from 0`;
}

function textOf(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

function integersOf(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: INTEGERS }, (_, i) => view.getInt32(4 * i, true));
}

function pack(integers: readonly number[]): Uint8Array {
  const bytes = Buffer.alloc(4 * integers.length);
  integers.forEach((integer, i) => bytes.writeInt32LE(integer, 4 * i));
  return bytes;
}
