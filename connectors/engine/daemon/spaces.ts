import { tensorBytes } from '../../../lib/codec/layout.js';
import { KvError } from '../../../lib/errors.js';
import type { StorageConnector } from '../../../lib/store/connector.js';
import { layoutOf, namespaceDigest, type Namespace } from '../../../lib/store/namespace.js';
import { KvStore } from '../../../lib/store/store.js';
import type { KvStoreOptions } from '../../../lib/store/store-options.js';

/** Spaces that a daemon remembers; who is forgotten registers again. */
const MAX_SPACES = 65_536;
/** Stores that are open at once. Each keeps buffers, and with a salt a tenant there may be many spaces. */
const MAX_OPEN = 32;

/** One space: a namespace by its digest. */
export interface Space {
  readonly digest: string;
  readonly namespace: Namespace;
  /** Bytes of one token; for the paged orders, tokens come in whole blocks. */
  readonly tokenBytes: number;
}

/** The spaces that a daemon was told of, and their stores over one connector. */
export interface Spaces {
  /** Digest of the namespace. Throws a TypeError or RangeError for one that cannot be. */
  register(namespace: Namespace): Space;
  /** Throws KV_UNKNOWN_SPACE. */
  get(digest: string): Space;
  /** What the digest means, if that is known. */
  describe(digest: string): Namespace | undefined;
  /** The store of a space. Use it at once: it may be closed when others were used. */
  storeOf(space: Space): KvStore;
  /** Waits for running calls and closes all stores. */
  close(): Promise<void>;
}

/** What all stores have in common. */
export type StoreSettings = Omit<KvStoreOptions, 'namespace'> & { readonly connector: StorageConnector };

export function makeSpaces(settings: StoreSettings): Spaces {
  const known = new Map<string, Space>();
  const open = new Map<string, KvStore>(); // least recently used first
  const closing = new Set<Promise<void>>();

  function close(store: KvStore): void {
    const closed: Promise<void> = store.close().finally(() => closing.delete(closed));
    closing.add(closed);
  }

  return {
    register(namespace) {
      const digest = namespaceDigest(namespace);
      const { geometry } = namespace;
      const block = geometry.blockTokens ?? 1;
      const space = known.get(digest) ?? { digest, namespace, tokenBytes: tensorBytes(layoutOf(geometry, block)) / block };
      known.delete(digest);
      known.set(digest, space);
      if (known.size > MAX_SPACES) known.delete(known.keys().next().value ?? '');
      return space;
    },
    get(digest) {
      const space = known.get(digest);
      if (space === undefined) throw new KvError('KV_UNKNOWN_SPACE', 'this daemon was not told of the space, or was restarted since: register it again (POST /v1/spaces) and repeat the call');
      return space;
    },
    describe: (digest) => known.get(digest)?.namespace,
    storeOf({ digest, namespace }) {
      const store = open.get(digest) ?? new KvStore({ ...settings, namespace });
      open.delete(digest);
      open.set(digest, store);
      if (open.size > MAX_OPEN) {
        const [oldest] = open;
        if (oldest !== undefined) {
          open.delete(oldest[0]);
          close(oldest[1]);
        }
      }
      return store;
    },
    async close() {
      for (const store of open.values()) close(store);
      open.clear();
      await Promise.all(closing);
    },
  };
}
