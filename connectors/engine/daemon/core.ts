// The daemon without any protocol: spaces, chunks and looks over one store. HTTP and lm:// are two ends of this.
import { distrustOf } from '../../../lib/store/stored-value.js';
import type { StorageConnector } from '../../../lib/store/connector.js';
import type { KvStoreOptions } from '../../../lib/store/store-options.js';
import { makeChunks, type Chunks } from './chunks.js';
import type { DaemonEvents } from './events.js';
import { hotTier, type HotTier, type HotTierOptions } from './hot-tier.js';
import { makeLooks, type Looks } from './looks.js';
import { metered } from './meter.js';
import { makePrefetches, type Prefetches } from './prefetches.js';
import { presenceTable, type PresenceTable } from './presence.js';
import { makeSpaces, type Spaces } from './spaces.js';

/** Options of the core. */
export interface CoreOptions {
  /** Where objects are kept; closed by whoever made it. */
  readonly connector: StorageConnector;
  /** How objects are made. Default: as `KvStore`. */
  readonly coding: Pick<KvStoreOptions, 'coder' | 'groupTokens' | 'threads'>;
  readonly events: DaemonEvents;
  /** Memory for objects in front of the connector. Default: none. */
  readonly memory?: HotTierOptions;
}

/** What the ends of the daemon work with. */
export interface DaemonCore {
  readonly spaces: Spaces;
  readonly chunks: Chunks;
  readonly looks: Looks;
  readonly prefetches: Prefetches;
  readonly presence: PresenceTable;
  /** The store itself, without the memory in front of it. */
  readonly connector: StorageConnector;
  /** The memory in front of the store, if there is any. */
  readonly hot: HotTier | undefined;
  readonly events: DaemonEvents;
  /** Waits for the work that runs; the connector stays open. */
  close(reason: Error): Promise<void>;
}

/** Damaged keys that are remembered until the fetch that met them is answered. */
const MAX_DAMAGED = 1024;

export function makeCore({ connector: stored, coding, events, memory }: CoreOptions): DaemonCore {
  const hot = memory && hotTier(stored, memory);
  const { connector, meter } = metered(hot ?? stored);
  const presence = presenceTable(() => performance.now());
  const damaged = new Set<string>();
  const onCorrupt = (error: Error, key: string): void => {
    events.notice({ level: 'warn', message: `the object at ${key} is no use: ${error.message}` });
    if (distrustOf(error) !== undefined && damaged.size < MAX_DAMAGED) damaged.add(key);
  };
  const spaces = makeSpaces({ ...coding, connector, onCorrupt });
  const looks = makeLooks(connector, presence, events);
  const prefetches = makePrefetches({ hot, presence, events });
  return {
    spaces,
    looks,
    prefetches,
    presence,
    connector: stored,
    hot,
    events,
    chunks: makeChunks({ connector, stored, spaces, presence, meter, events, wasDamaged: (key) => damaged.delete(key) }),
    async close(reason) {
      await Promise.all([looks.close(reason), prefetches.close(reason)]);
      await spaces.close();
    },
  };
}
