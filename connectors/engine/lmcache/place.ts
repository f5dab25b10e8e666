import type { CallOptions } from '../../../lib/store/connector.js';
import type { PrefixHash } from '../../../lib/key/hash-chain.js';

/** Where LMCache keeps objects: names and bytes, without a form. Not a storage connector of ours: names are LMCache's. */
export interface Place {
  /** What people call it; without credentials. */
  readonly label: string;
  /** Every name, in no order. Rejects with KV_CONNECTOR_UNAVAILABLE, KV_CONNECTOR_REFUSED or KV_CONNECTOR_TIMEOUT, as every verb does. */
  list(options: CallOptions): AsyncIterable<string>;
  /** The bytes; undefined if there are none any more. Rejects with KV_UNSUPPORTED for more than LMCache stores in one object (2 GiB). */
  get(name: string, options: CallOptions): Promise<Uint8Array | undefined>;
  /** Stores the bytes, whole or not at all, and replaces what was there. `hash` is the object's chunk hash. */
  put(name: string, pieces: readonly Uint8Array[], options: CallOptions & { readonly hash: PrefixHash }): Promise<void>;
  close(): Promise<void>;
}

/** RemoteMetadata counts bytes in 31 bits, and there is some before the data. */
export const MAX_OBJECT_BYTES = 2 ** 31 + 2 ** 16;
