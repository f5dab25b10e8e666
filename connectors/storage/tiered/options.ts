import type { StorageConnector } from '../../../lib/store/connector.js';
import { checkLimit } from '../../../lib/store/time-limit.js';
import { checkFields } from '../arguments.js';

export interface TieredOptions {
  /**
   * How long a call may wait for one tier before it goes on to the next, in milliseconds, above 0; the last tier has all the time that is
   * left. Set it below the deadline of your calls. Default 1000.
   */
  readonly timeoutMs?: number;
  /** Bytes that may be on their way up at once, from 0; a value that would pass it is not promoted. 0 promotes nothing. Default 64 MiB. */
  readonly promotionBytes?: number;
  /** Told of each failed call to a tier, also where another tier served the caller. */
  readonly onFailure?: (tierName: string, error: unknown) => void;
  /** Clock for `ttlMs`, in milliseconds; a simulator passes its own. Default: `performance.now`, which no clock change moves. */
  readonly now?: () => number;
}

export const TIERED_DEFAULTS = { timeoutMs: 1000, promotionBytes: 64 * 2 ** 20 } as const;

/** Throws a TypeError or RangeError for tiers and options that cannot be. */
export function checkTieredOptions(tiers: readonly StorageConnector[], options: TieredOptions): void {
  if (!Array.isArray(tiers) || tiers.length === 0) throw new TypeError('expected at least one tier');
  if (new Set(tiers).size < tiers.length) throw new TypeError('expected the tiers to be different connectors, got one of them twice');
  checkFields(options, ['timeoutMs', 'promotionBytes', 'onFailure', 'now']);
  checkLimit('timeoutMs', options.timeoutMs);
  const { promotionBytes = 0 } = options;
  if (!(promotionBytes >= 0)) throw new RangeError(`expected \`promotionBytes\` to be from 0, got ${promotionBytes}`);
}
