import type { BufferPool } from '../../../lib/store/buffer-pool.js';
import type { CallOptions, GetOptions, StorageConnector } from '../../../lib/store/connector.js';
import { lifeCycle } from '../life-cycle.js';
import { stagedRead } from './staged-read.js';

/** What became of a call to one tier. */
export type Attempt<T> = { readonly isDone: true; readonly result: T } | { readonly isDone: false; readonly failure: unknown };

/** One connector of a stack, and what is known of it. */
export interface Tier {
  readonly connector: StorageConnector;
  /** Makes a call within the tier's time limit. Rejects only with the reason of the caller's signal, or with a caller's mistake. */
  attempt<T>(signal: AbortSignal | undefined, work: (call: CallOptions) => Promise<T>): Promise<Attempt<T>>;
  /** Reads a value in an attempt, so that nothing writes to the caller's memory once the attempt has failed. */
  read(key: string, options: GetOptions): Promise<Attempt<Uint8Array | undefined>>;
  /** Tells of a failure that was not met in an attempt. */
  report(failure: unknown): void;
  /** Whether the tier may have an older value of the key than others, so that it must not be read. */
  isDoubtful(key: string): boolean;
  doubt(key: string): void;
  trust(key: string): void;
  /** Tries to delete a doubtful value, whatever the caller's signal says by now; it stays in doubt where that fails. */
  discard(key: string): Promise<void>;
}

export interface TierOptions {
  /** Time for a call, in milliseconds; the last tier has that only for calls that no caller limits. */
  readonly timeoutMs: number;
  readonly isLast: boolean;
  /** Memory for reads that may be given up. */
  readonly pool: BufferPool;
  readonly onFailure: ((tierName: string, error: unknown) => void) | undefined;
}

/** Keys in doubt that are remembered: 20 MiB at most with keys of the usual length. The oldest doubts are forgotten first. */
const MAX_DOUBTS = 65_536;

/** Makes a tier of a connector. */
export function tier(connector: StorageConnector, { timeoutMs, isLast, pool, onFailure }: TierOptions): Tier {
  const limited = lifeCycle(connector.name, timeoutMs);
  const calls = isLast ? lifeCycle(connector.name) : limited;
  const doubts = new Set<string>();

  const report = (failure: unknown): void => onFailure?.(connector.name, failure);

  async function attempt<T>(signal: AbortSignal | undefined, work: (call: CallOptions) => Promise<T>): Promise<Attempt<T>> {
    try {
      return { isDone: true, result: await calls.run(callOf(signal), (ownSignal) => work(callOf(ownSignal))) };
    } catch (failure) {
      signal?.throwIfAborted();
      if (failure instanceof TypeError || failure instanceof RangeError) throw failure;
      report(failure);
      return { isDone: false, failure };
    }
  }

  return {
    connector,
    attempt,
    report,
    read: (key, options) =>
      attempt(options.signal, (call) => {
        const own = { ...options, ...call };
        return isLast ? connector.get(key, own) : stagedRead(pool, own, (staged) => connector.get(key, staged));
      }),
    isDoubtful: (key) => doubts.has(key),
    doubt(key) {
      doubts.add(key);
      const [oldest] = doubts;
      if (doubts.size > MAX_DOUBTS && oldest !== undefined) doubts.delete(oldest);
    },
    trust: (key) => void doubts.delete(key),
    async discard(key) {
      try {
        await limited.run({}, (ownSignal) => connector.delete(key, callOf(ownSignal)));
        doubts.delete(key);
      } catch (failure) {
        report(failure);
      }
    },
  };
}

function callOf(signal: AbortSignal | undefined): CallOptions {
  return signal ? { signal } : {};
}
