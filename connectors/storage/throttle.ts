import { callQueue } from '../../lib/store/call-queue.js';
import type { CallOptions, GetOptions, ListedValue, PutOptions, SoundnessCheck, StorageConnector } from '../../lib/store/connector.js';
import { checkFields } from './arguments.js';
import { lifeCycle } from './life-cycle.js';
import { SYSTEM_CLOCK, type Clock } from './throttle/clock.js';
import { link } from './throttle/link.js';

export type { Clock } from './throttle/clock.js';

export interface ThrottleOptions {
  /** Value bytes a second, at least 1, in each direction: gets and puts do not share it. Default: no limit. */
  readonly bytesPerSecond?: number;
  /** Added to each call, in milliseconds, as for a round trip. Default 0. */
  readonly latencyMs?: number;
  /** Calls that the far end serves at once, at least 1; others wait. A list counts as a call while it waits only. Default: no limit. */
  readonly concurrency?: number;
  /** Default: the machine's clock. */
  readonly clock?: Clock;
}

/** A minute: no link is slower, and a mistaken unit shows. */
const MAX_LATENCY_MS = 60_000;

/**
 * Makes a fast connector behave like one behind a slow link, for tests, demonstrations and planning. Bytes are shared out evenly
 * among the calls that move some at the same time. `close` closes `inner` too.
 */
export function throttle(inner: StorageConnector, options: ThrottleOptions): StorageConnector {
  checkOptions(options);
  const { bytesPerSecond = Infinity, latencyMs = 0, concurrency = Infinity, clock = SYSTEM_CLOCK } = options;
  const { name, supports } = inner;
  const [sweep, repair] = [inner.sweep?.bind(inner), inner.repair?.bind(inner)];
  const life = lifeCycle(name);
  const calls = callQueue(concurrency);
  const upward = link(bytesPerSecond, clock);
  const downward = link(bytesPerSecond, clock);

  /** Runs `work` in its turn and after the latency. */
  function delayed<T>(options: CallOptions, work: (signal: AbortSignal | undefined) => Promise<T>): Promise<T> {
    return life.run(options, (signal) =>
      calls.run(options, async () => {
        if (latencyMs > 0) await clock.sleep(latencyMs, signal);
        return work(signal);
      }),
    );
  }

  return {
    name,
    supports,

    get: (key: string, options: GetOptions = {}) =>
      delayed(options, async (signal) => {
        const value = await inner.get(key, options);
        if (value !== undefined) await downward.carry(value.byteLength, signal);
        return value;
      }),

    put: (key: string, value: Uint8Array, options: PutOptions = {}) =>
      delayed(options, async (signal) => {
        // Not bytes: `inner` says so, at once.
        if (value instanceof Uint8Array) await upward.carry(value.byteLength, signal);
        return inner.put(key, value, options);
      }),

    has: (key, options = {}) => delayed(options, () => inner.has(key, options)),
    delete: (key, options = {}) => delayed(options, () => inner.delete(key, options)),

    async *list(prefix, options = {}): AsyncGenerator<ListedValue> {
      await delayed(options, async () => undefined);
      yield* inner.list(prefix, options);
    },

    ...(sweep && { sweep: (options: CallOptions = {}) => delayed(options, () => sweep(options)) }),
    ...(repair && { repair: (key: string, isSound: SoundnessCheck, options: CallOptions = {}) => delayed(options, () => repair(key, isSound, options)) }),

    async close() {
      await life.close();
      await inner.close();
    },
  };
}

function checkOptions(options: ThrottleOptions): void {
  checkFields(options, ['bytesPerSecond', 'latencyMs', 'concurrency', 'clock']);
  const { bytesPerSecond = 1, latencyMs = 0, concurrency = 1 } = options;
  if (!(bytesPerSecond >= 1)) throw new RangeError(`expected \`bytesPerSecond\` to be at least 1, got ${bytesPerSecond}`);
  if (!(latencyMs >= 0 && latencyMs <= MAX_LATENCY_MS)) throw new RangeError(`expected \`latencyMs\` to be from 0 to ${MAX_LATENCY_MS}, got ${latencyMs}`);
  const isCount = concurrency === Infinity || (Number.isSafeInteger(concurrency) && concurrency >= 1);
  if (!isCount) throw new RangeError(`expected \`concurrency\` to be an integer of at least 1, got ${concurrency}`);
}
