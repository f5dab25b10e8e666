// What a bounded store knows when it starts: what the storage itself lists.
import type { CallOptions, ListedValue, StorageConnector } from '../../../lib/store/connector.js';
import type { Ledger } from './ledger.js';

/** How listed values are entered. */
export interface RebuildOptions extends CallOptions {
  readonly groupOf: (key: string) => string;
  /** When a value expires that was stored at that time of the wall clock, if that is known. */
  readonly expiryOf: (storedAtMs: number | undefined) => number;
}

/** Enters every value of `inner` in the order in which they were stored; those that were used meanwhile come last. */
export async function rebuild(ledger: Ledger, inner: StorageConnector, { groupOf, expiryOf, ...call }: RebuildOptions): Promise<void> {
  const values: ListedValue[] = [];
  for await (const value of inner.list('', call)) values.push(value);
  values.sort((a, b) => (a.storedAtMs ?? 0) - (b.storedAtMs ?? 0));
  const used = values.filter(({ key }) => ledger.find(key) !== undefined);
  const unused = values.filter(({ key }) => ledger.find(key) === undefined);
  for (const { key, bytes, storedAtMs } of [...unused, ...used]) {
    ledger.set({ key, group: groupOf(key), bytes, expiresAt: expiryOf(storedAtMs) });
  }
}
