import type { CallOptions, StorageConnector } from './connector.js';
import type { PrefixHash } from '../key/hash-chain.js';
import { parseKey } from './namespace.js';

/** A chunk's object or a run's manifest, as a storage connector lists it. */
export interface StoredEntry {
  readonly key: string;
  readonly namespace: string;
  readonly hash: PrefixHash;
  readonly bytes: number;
}

/** All chunks or all runs in a storage connector, of every namespace; what others keep there is left out. */
export async function* listStored(connector: StorageConnector, kind: 'chunks' | 'runs', options: CallOptions = {}): AsyncGenerator<StoredEntry> {
  for await (const { key, bytes } of connector.list(`${kind}/`, options)) {
    const parsed = parseKey(key);
    if (parsed !== undefined) yield { key, bytes, namespace: parsed.namespace, hash: parsed.hash };
  }
}
