// Chunks and manifests as they lie in a storage connector, judged.
import { checkedChunk } from '../codec/codec.js';
import { native } from '../codec/native.js';
import { readObject, sectionTable } from '../container/object.js';
import { KvError } from '../errors.js';
import type { CallOptions, StorageConnector } from './connector.js';
import { unpackManifest, type NamespaceDescription, type RunManifest } from './manifest.js';
import { hasGeometry } from './namespace.js';

/** `damaged`: not to be trusted. `unknown`: made by another version, which may well read it. */
export type Distrust = 'damaged' | 'unknown';

const DISTRUST: ReadonlyMap<unknown, Distrust> = new Map([
  ['KV_CORRUPT_OBJECT', 'damaged'],
  ['KV_GEOMETRY_MISMATCH', 'damaged'],
  ['KV_UNSUPPORTED', 'unknown'],
  ['KV_UNSUPPORTED_VERSION', 'unknown'],
]);

/** What an error says of a stored value; undefined where it is about something else, such as a store that does not answer. */
export function distrustOf(error: unknown): Distrust | undefined {
  // By its code, not its class: a connector from elsewhere has a KvError of its own.
  return error instanceof Error && 'code' in error ? DISTRUST.get(error.code) : undefined;
}

/** The manifest at `key`, undefined if there is none. Rejects with KV_CORRUPT_OBJECT, KV_UNSUPPORTED, KV_UNSUPPORTED_VERSION, or as the connector does. */
export async function readRun(connector: StorageConnector, key: string, options: CallOptions): Promise<RunManifest | undefined> {
  const bytes = await connector.get(key, options);
  return bytes && unpackManifest(bytes, key);
}

/**
 * Throws unless every byte of the object is as its checksums say and it was made for `key` and, where the namespace of the key is
 * known, for that: KV_CORRUPT_OBJECT, KV_GEOMETRY_MISMATCH, KV_UNSUPPORTED or KV_UNSUPPORTED_VERSION. Nothing is decoded.
 */
export function checkObject(object: Uint8Array, key: string, namespace?: NamespaceDescription): void {
  const { header, sectionStart } = readObject(object);
  if (header.key !== key) throw new KvError('KV_GEOMETRY_MISMATCH', `the object at ${key} was made for the key ${JSON.stringify(header.key)}`);
  const { chunk } = checkedChunk(header);
  if (namespace !== undefined && (!hasGeometry(chunk.layout, namespace.geometry) || header.rung !== namespace.quality)) {
    throw new KvError('KV_GEOMETRY_MISMATCH', `the object at ${key} is not of the geometry and rung of its namespace`);
  }
  const table = sectionTable(header);
  for (let i = 0; i < header.lengths.length; i++) {
    const begin = sectionStart + Number(table[3 * i]);
    const section = object.subarray(begin, begin + Number(table[3 * i + 1]));
    if (native().xxh3(section) !== table[3 * i + 2]) throw new KvError('KV_CORRUPT_OBJECT', `the object at ${key} is damaged: section ${i} does not match its checksum`);
  }
}

/** `checkObject` for a chunk; for a manifest, that it is one and belongs at `key`. */
export function checkStored(value: Uint8Array, key: string): void {
  if (key.startsWith('runs/')) unpackManifest(value, key);
  else checkObject(value, key);
}
