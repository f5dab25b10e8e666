// The books of a bounded store: which keys it holds, how many bytes each counts, and who goes first. Pure: no storage, no clock.
import { expiryQueue } from '../expiry-queue.js';

/** One stored value, as the books know it. */
export interface Entry {
  readonly key: string;
  readonly group: Group;
  /** Never less than what is stored, as far as that is known. */
  readonly bytes: number;
  /** By the clock that `Ledger` calls are given; Infinity for never. */
  readonly expiresAt: number;
}

/** The values that share one quota. */
export interface Group {
  readonly name: string;
  /** Bytes of its entries and of its puts under way. */
  readonly bytes: number;
}

/** What the books are to hold. */
export interface Bounds {
  readonly maxBytes: number;
  /** Of each group; Infinity for none. */
  readonly groupMaxBytes: number;
}

/** Room that is wanted in a group. */
export interface Demand {
  readonly group: string;
  readonly bytes: number;
}

/** Whose turn it is to go. */
export interface VictimSearch {
  readonly now: number;
  /** Most entries to name. */
  readonly limit: number;
  readonly mayGo: (entry: Entry) => boolean;
}

export interface Ledger {
  /** Bytes of all entries and of all puts under way. */
  readonly bytes: number;
  readonly entries: number;
  find(key: string): Entry | undefined;
  /** Enters what was stored, as the last used; replaces the entry of its key. */
  set(value: { key: string; group: string; bytes: number; expiresAt: number }): Entry;
  resize(entry: Entry, bytes: number): void;
  /** The entry was used last, and is certainly there. */
  touch(entry: Entry): void;
  /** Where room is needed, the entry goes before those that are certainly there. */
  doubt(entry: Entry): void;
  remove(key: string): void;
  /** Whether that many bytes more stay within the bounds. */
  fits(demand: Demand): boolean;
  /** Counts bytes of a put under way; negative gives them back. */
  reserve(demand: Demand): void;
  /**
   * Who should go so that `demand` fits, or without one so that the bounds hold: what has expired in any case; then of a group over
   * its quota, then of all, what is in doubt and what was not used for the longest time.
   */
  victims(demand: Demand | undefined, search: VictimSearch): Entry[];
}

type Open<T> = { -readonly [K in keyof T]: T[K] };

interface OpenGroup extends Open<Group> {
  /** The longest unused first. */
  readonly entries: Map<string, Entry>;
}

interface OpenEntry extends Open<Omit<Entry, 'group'>> {
  readonly group: OpenGroup;
}

/** Opens empty books. */
export function ledger({ maxBytes, groupMaxBytes }: Bounds): Ledger {
  const entries = new Map<string, OpenEntry>(); // the longest unused first
  const groups = new Map<string, OpenGroup>();
  const expiries = expiryQueue<OpenEntry>();
  const expired = new Set<OpenEntry>();
  const doubtful = new Set<OpenEntry>();
  let bytes = 0;

  const isCurrent = (entry: Entry): boolean => entries.get(entry.key) === entry;

  function groupOf(name: string): OpenGroup {
    const group = groups.get(name) ?? { name, bytes: 0, entries: new Map() };
    groups.set(name, group);
    return group;
  }

  function groupsNamed(name: string): OpenGroup[] {
    const group = groups.get(name);
    return group ? [group] : [];
  }

  function count(group: OpenGroup, change: number): void {
    bytes += change;
    group.bytes += change;
    if (group.bytes === 0 && group.entries.size === 0) groups.delete(group.name);
  }

  function remove(key: string): void {
    const entry = entries.get(key);
    if (entry === undefined) return;
    entries.delete(key);
    entry.group.entries.delete(key);
    expired.delete(entry);
    doubtful.delete(entry);
    count(entry.group, -entry.bytes);
  }

  function currentOf(entry: Entry): OpenEntry | undefined {
    return isCurrent(entry) ? entries.get(entry.key) : undefined;
  }

  function moveToEnd(entry: OpenEntry): void {
    entries.delete(entry.key);
    entries.set(entry.key, entry);
    entry.group.entries.delete(entry.key);
    entry.group.entries.set(entry.key, entry);
  }

  function noteExpired(now: number): void {
    for (let entry = expiries.takeExpired(now); entry !== undefined; entry = expiries.takeExpired(now)) {
      if (isCurrent(entry)) expired.add(entry);
    }
    // Entries that were replaced or evicted leave theirs behind.
    if (expiries.size > 2 * entries.size + 64) expiries.keep(isCurrent);
  }

  return {
    get bytes() {
      return bytes;
    },
    get entries() {
      return entries.size;
    },
    find: (key) => entries.get(key),
    set(value) {
      remove(value.key);
      const group = groupOf(value.group);
      const entry = { ...value, group };
      entries.set(value.key, entry);
      group.entries.set(value.key, entry);
      count(group, value.bytes);
      if (value.expiresAt !== Infinity) expiries.add(entry);
      return entry;
    },
    resize(entry, newBytes) {
      const current = currentOf(entry);
      if (current === undefined) return;
      const change = newBytes - current.bytes;
      current.bytes = newBytes;
      count(current.group, change);
    },
    touch(entry) {
      const current = currentOf(entry);
      if (current === undefined) return;
      moveToEnd(current);
      doubtful.delete(current);
    },
    doubt(entry) {
      const current = currentOf(entry);
      if (current !== undefined) doubtful.add(current);
    },
    remove,
    fits(demand) {
      const group = groups.get(demand.group)?.bytes ?? 0;
      return bytes + demand.bytes <= maxBytes && group + demand.bytes <= groupMaxBytes;
    },
    reserve: (demand) => count(groupOf(demand.group), demand.bytes),
    victims(demand, { now, limit, mayGo }) {
      noteExpired(now);
      const victims = new Set<Entry>();
      const freed = new Map<Group, number>();
      let over = bytes + (demand?.bytes ?? 0) - maxBytes;
      const overOf = (group: OpenGroup): number => group.bytes + (group.name === demand?.group ? demand.bytes : 0) - (freed.get(group) ?? 0) - groupMaxBytes;

      function take(candidates: Iterable<Entry>, isNeeded: () => boolean): void {
        for (const entry of candidates) {
          if (victims.size >= limit || !isNeeded()) return;
          if (victims.has(entry) || !mayGo(entry)) continue;
          victims.add(entry);
          freed.set(entry.group, (freed.get(entry.group) ?? 0) + entry.bytes);
          over -= entry.bytes;
        }
      }

      take(expired, () => true);
      for (const group of demand === undefined || over > 0 ? groups.values() : groupsNamed(demand.group)) {
        const mustFit = demand === undefined || demand.group === group.name;
        const isNeeded = (): boolean => overOf(group) > 0 && (mustFit || over > 0);
        take(inGroup(doubtful, group), isNeeded);
        take(group.entries.values(), isNeeded);
      }
      take(doubtful, () => over > 0);
      take(entries.values(), () => over > 0);
      return [...victims];
    },
  };
}

function* inGroup(entries: Iterable<Entry>, group: Group): Generator<Entry> {
  for (const entry of entries) if (entry.group === group) yield entry;
}
