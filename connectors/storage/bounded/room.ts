// Room for puts: bytes are reserved before anything is written, and who has to go is gone by then. So what is stored never passes the
// bounds, not even with many puts under way.
import { KvError } from '../../../lib/errors.js';
import type { SweepResult } from '../../../lib/store/connector.js';
import { keyTurns } from '../key-turns.js';
import type { Demand, Entry, Ledger } from './ledger.js';

/** What `room` needs of its store. */
export interface RoomOptions {
  readonly ledger: Ledger;
  readonly now: () => number;
  /** Removes a value from the storage. */
  readonly remove: (entry: Entry, signal: AbortSignal | undefined) => Promise<void>;
}

/** A value that wants to be stored. */
export interface Arrival {
  readonly key: string;
  readonly group: string;
  readonly bytes: number;
}

export interface Room {
  /** Keys whose stored value is being changed. Nobody else may change these or believe what was read of them. */
  readonly busy: ReadonlySet<string>;
  /**
   * Resolves when `arrival` fits: its bytes are reserved and its key is busy, both until the returned function is called, and more only
   * in as far as it is larger than what it replaces. Rejects with KV_NO_SPACE where too many deletes fail.
   */
  enter(arrival: Arrival, signal: AbortSignal | undefined): Promise<() => void>;
  /** Makes the key busy until the returned function is called: it is being deleted. */
  occupy(key: string): () => void;
  /** Removes what has expired and what is over the bounds. Rejects with the first failure. */
  sweep(signal: AbortSignal | undefined): Promise<SweepResult>;
}

/** Deletes that run at once. */
const EVICTIONS_AT_ONCE = 32;
/** Failed deletes after which one put gives up: the storage has a trouble that more deletes would not mend. */
const MAX_FAILED_EVICTIONS = 4;

/** Makes the room of one store. */
export function room({ ledger, now, remove }: RoomOptions): Room {
  const busy = new Set<string>();
  // One at a time looks for room, in order of arrival: else a large value would starve among small ones.
  const turns = keyTurns();
  let waiting: (() => void)[] = [];

  function release(key: string): void {
    busy.delete(key);
    const woken = waiting;
    waiting = [];
    for (const wake of woken) wake();
  }

  function reserve(key: string, demand: Demand): () => void {
    ledger.reserve(demand);
    busy.add(key);
    return () => {
      ledger.reserve({ ...demand, bytes: -demand.bytes });
      release(key);
    };
  }

  const someRelease = (): Promise<void> => new Promise((resolve) => waiting.push(resolve));

  async function evict(entries: readonly Entry[], signal: AbortSignal | undefined): Promise<unknown[]> {
    const deletes = entries.map(async (entry) => {
      busy.add(entry.key);
      try {
        await remove(entry, signal);
      } finally {
        release(entry.key);
      }
    });
    const outcomes = await Promise.allSettled(deletes);
    return outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []));
  }

  return {
    busy,

    enter: ({ key, group, bytes }, signal) =>
      turns.run('', signal, async () => {
        const tried = new Set<Entry>();
        const failures: unknown[] = [];
        const mayGo = (entry: Entry): boolean => entry.key !== key && !busy.has(entry.key) && !tried.has(entry);
        for (;;) {
          signal?.throwIfAborted();
          // Asked again each time: what it replaces may have gone meanwhile.
          const demand: Demand = { group, bytes: Math.max(0, bytes - (ledger.find(key)?.bytes ?? 0)) };
          const victims = ledger.victims(demand, { now: now(), limit: EVICTIONS_AT_ONCE, mayGo });
          // What has expired goes without need, but of thousands one put removes only some.
          if (ledger.fits(demand) && (victims.length === 0 || tried.size > 0)) return reserve(key, demand);
          if (failures.length >= MAX_FAILED_EVICTIONS || (victims.length === 0 && busy.size === 0)) throw noRoom(key, failures);
          for (const entry of victims) tried.add(entry);
          if (victims.length === 0) await someRelease();
          else failures.push(...(await evict(victims, signal)));
        }
      }),

    occupy(key) {
      busy.add(key);
      return () => release(key);
    },

    sweep: (signal) =>
      turns.run('', signal, async () => {
        const tried = new Set<Entry>();
        const mayGo = (entry: Entry): boolean => !busy.has(entry.key) && !tried.has(entry);
        const swept = { removed: 0, bytes: 0 };
        for (;;) {
          signal?.throwIfAborted();
          const victims = ledger.victims(undefined, { now: now(), limit: EVICTIONS_AT_ONCE, mayGo });
          if (victims.length === 0) return swept;
          for (const entry of victims) tried.add(entry);
          const [failure] = await evict(victims, signal);
          if (failure !== undefined) throw failure;
          swept.removed += victims.length;
          for (const { bytes } of victims) swept.bytes += bytes;
        }
      }),
  };
}

function noRoom(key: string, failures: readonly unknown[]): KvError {
  return new KvError('KV_NO_SPACE', `no room could be made for "${key}": the storage does not let go of other values; see the cause`, { cause: failures[0] });
}
