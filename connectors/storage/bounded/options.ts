import { checkFields } from '../arguments.js';

/** A bound of each tenant's own. */
export interface QuotaOptions {
  /** The tenant that a key belongs to, say its first part. Of one key it must always be the same. */
  readonly groupOf: (key: string) => string;
  /** Most value bytes of one tenant, above 0. */
  readonly maxBytes: number;
}

export interface BoundedOptions {
  /** Most value bytes held at once, above 0. What the storage needs beside them (names, index, slack) is not counted. */
  readonly maxBytes: number;
  /** Time to live in milliseconds, above 0, of values that are put without one of their own. Default: until evicted. */
  readonly ttlMs?: number;
  /**
   * `second`: the first put of a key is only remembered, the second stores it. For a store that many prefixes pass through and few come
   * back to. Default `first`: every put stores.
   */
  readonly admission?: 'first' | 'second';
  /** Default: tenants share `maxBytes` as they come. */
  readonly quota?: QuotaOptions;
  /** Clock for times to live, in milliseconds; a simulator passes its own. Default: `performance.now`, which no clock change moves. */
  readonly now?: () => number;
}

/** Throws a TypeError or RangeError for options that cannot be. */
export function checkBoundedOptions(options: BoundedOptions): void {
  checkFields(options, ['maxBytes', 'ttlMs', 'admission', 'quota', 'now']);
  const { maxBytes, ttlMs, admission = 'first', quota } = options;
  checkAboveZero('maxBytes', maxBytes);
  if (ttlMs !== undefined) checkAboveZero('ttlMs', ttlMs);
  if (admission !== 'first' && admission !== 'second') {
    throw new TypeError(`expected \`admission\` to be first or second, got ${JSON.stringify(admission)}`);
  }
  if (quota === undefined) return;
  checkFields(quota, ['groupOf', 'maxBytes']);
  checkAboveZero('quota.maxBytes', quota.maxBytes);
  if (typeof quota.groupOf !== 'function') throw new TypeError(`expected \`quota.groupOf\` to be a function, got ${typeof quota.groupOf}`);
}

function checkAboveZero(name: string, value: number): void {
  if (!(value > 0)) throw new RangeError(`expected \`${name}\` to be above 0, got ${value}`);
}
