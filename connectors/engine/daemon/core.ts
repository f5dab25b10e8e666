// The daemon without any protocol: spaces, chunks and looks over one store. HTTP and lm:// are two ends of this.
import { distrustOf } from '../../../lib/store/stored-value.js';
import type { StorageConnector } from '../../../lib/store/connector.js';
import type { KvStoreOptions } from '../../../lib/store/store-options.js';
import { makeChunks, type Chunks } from './chunks.js';
import type { DaemonEvents } from './events.js';
import { makeLooks, type Looks } from './looks.js';
import { metered } from './meter.js';
import { presenceTable, type PresenceTable } from './presence.js';
import { makeSpaces, type Spaces } from './spaces.js';

/** Options of the core. */
export interface CoreOptions {
  /** Where objects are kept; closed by whoever made it. */
  readonly connector: StorageConnector;
  /** How objects are made. Default: as `KvStore`. */
  readonly coding: Pick<KvStoreOptions, 'coder' | 'groupTokens' | 'threads'>;
  readonly events: DaemonEvents;
}

/** What the ends of the daemon work with. */
export interface DaemonCore {
  readonly spaces: Spaces;
  readonly chunks: Chunks;
  readonly looks: Looks;
  readonly presence: PresenceTable;
  /** The store itself, for listings. */
  readonly connector: StorageConnector;
  readonly events: DaemonEvents;
  /** Waits for the work that runs; the connector stays open. */
  close(reason: Error): Promise<void>;
}

/** Damaged keys that are remembered until the fetch that met them is answered. */
const MAX_DAMAGED = 1024;

export function makeCore({ connector: inner, coding, events }: CoreOptions): DaemonCore {
  const { connector, meter } = metered(inner);
  const presence = presenceTable(() => performance.now());
  const damaged = new Set<string>();
  const onCorrupt = (error: Error, key: string): void => {
    events.notice({ level: 'warn', message: `the object at ${key} is no use: ${error.message}` });
    if (distrustOf(error) !== undefined && damaged.size < MAX_DAMAGED) damaged.add(key);
  };
  const spaces = makeSpaces({ ...coding, connector, onCorrupt });
  const looks = makeLooks(connector, presence, events);
  return {
    spaces,
    looks,
    presence,
    connector,
    events,
    chunks: makeChunks({ connector, spaces, presence, meter, events, wasDamaged: (key) => damaged.delete(key) }),
    async close(reason) {
      await looks.close(reason);
      await spaces.close();
    },
  };
}
