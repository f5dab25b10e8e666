// The keys of a session and the objects of its chunks.
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { decode, encode } from '../../../lib/codec/codec.js';
import { EXACT, rungOf } from '../../../lib/codec/rungs.js';
import { tensorBytes } from '../../../lib/codec/layout.js';
import { KvError } from '../../../lib/errors.js';
import type { CallOptions, StorageConnector } from '../../../lib/store/connector.js';
import { checkStored, distrustOf } from '../../../lib/store/stored-value.js';
import type { PlannedChunk } from './chunk-plan.js';
import { sha256 } from './session-manifest.js';

const PREFIX = 'llama';

/** Prefix of all keys of a session. */
export function sessionPrefix(name: string): string {
  return `${PREFIX}/${name}/`;
}

/** Key of a session's manifest. */
export function manifestKey(name: string): string {
  return `${sessionPrefix(name)}session`;
}

/** What tells one object of a session from all others: what is in it, and of which tokens it is. */
export interface ChunkIdentity {
  readonly chunk: PlannedChunk;
  /** Hash of the tokens up to the chunk's end. */
  readonly prefixHash: string;
  /** SHA-256 of its rows. The tokens alone do not decide them: how they were batched shows in the last bits. */
  readonly digest: Uint8Array;
  readonly rung: string;
}

/** Key of a chunk's object. */
export function chunkKey(name: string, { chunk, prefixHash, digest, rung }: ChunkIdentity): string {
  const { order, dtype, layers, tokens, headDim } = chunk.layout;
  const parts = ['kvreel llama chunk 1', prefixHash, Buffer.from(digest).toString('hex'), rung, chunk.start, order, dtype, layers, tokens, headDim];
  return `${sessionPrefix(name)}${createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32)}`;
}

/** Hashes of all prefixes that end where the chunks do, in their order. */
export function prefixHashesOf(tokens: Int32Array, chunks: readonly PlannedChunk[]): string[] {
  const hash = createHash('sha256');
  const known = new Map<number, string>();
  let hashed = 0;
  for (const end of [...new Set(chunks.map((chunk) => chunk.end))].sort((a, b) => a - b)) {
    const more = tokens.subarray(hashed, end);
    hash.update(new Uint8Array(more.buffer, more.byteOffset, more.byteLength));
    hashed = end;
    known.set(end, hash.copy().digest('hex'));
  }
  return chunks.map(({ end }) => known.get(end) ?? '');
}

/** Encodes rows and puts them; gives the bytes of the object. Rejects as `encode` and the connector do. */
export async function putChunk(connector: StorageConnector, key: string, { chunk, rung }: ChunkIdentity, rows: Uint8Array, call: CallOptions): Promise<number> {
  const object = await encode({ layout: chunk.layout, data: rows, start: chunk.start }, { key, quality: rung, ...call });
  await connector.put(key, object, call);
  return object.length;
}

/** The rows of a stored chunk. Rejects with KV_CORRUPT_OBJECT where they are gone or not what was saved, and as the connector does. */
export async function fetchChunk(connector: StorageConnector, key: string, identity: ChunkIdentity, call: CallOptions): Promise<Uint8Array> {
  try {
    return await readChunk(connector, key, identity, call);
  } catch (error) {
    if (distrustOf(error) !== 'damaged') throw error;
  }
  try {
    // Once more: only the way here may have damaged it.
    return await readChunk(connector, key, identity, call);
  } catch (error) {
    if (distrustOf(error) !== 'damaged' || !(await isMended(connector, key, call))) throw error;
  }
  return readChunk(connector, key, identity, call);
}

async function readChunk(connector: StorageConnector, key: string, { chunk, digest, rung }: ChunkIdentity, call: CallOptions): Promise<Uint8Array> {
  const object = await connector.get(key, call);
  if (object === undefined) throw new KvError('KV_CORRUPT_OBJECT', `the session is not complete: its chunk ${key} is gone from ${connector.name}; evaluate the prompt again and save`);
  const { layout, data } = await decode(object, { key, maxBytes: tensorBytes(chunk.layout), ...call });
  if (!isDeepStrictEqual(layout, chunk.layout)) throw new KvError('KV_CORRUPT_OBJECT', `the object ${key} is of another layout than the session says`);
  if (rungOf(rung) === EXACT && Buffer.compare(sha256(data), digest) !== 0) throw new KvError('KV_CORRUPT_OBJECT', `the object ${key} holds other rows than were saved`);
  return data;
}

/** Replaces a damaged object by a sound copy of another tier, or deletes it: the next save would take it for stored. */
async function isMended(connector: StorageConnector, key: string, call: CallOptions): Promise<boolean> {
  if (connector.repair === undefined) {
    await connector.delete(key, call);
    return false;
  }
  const { sound, replaced } = await connector.repair(key, isSound, call);
  return sound + replaced > 0;
}

function isSound(object: Uint8Array, key: string): boolean {
  try {
    checkStored(object, key);
    return true;
  } catch (error) {
    return distrustOf(error) === 'unknown';
  }
}
