// Closed: calls pass. Open: calls are refused at once, and a probe is due. Half-open: the probe runs and decides; calls are still
// refused. No call serves as the probe, so none waits for a far end that is down.
import { KvError } from '../../lib/errors.js';
import type { CallOptions, GetOptions, ListedValue, PutOptions, SoundnessCheck, StorageConnector } from '../../lib/store/connector.js';
import { checkLimit } from '../../lib/store/time-limit.js';
import { checkFields } from './arguments.js';
import { judge } from './breaker/judge.js';
import { lifeCycle } from './life-cycle.js';

/** What a breaker thinks of the far end. */
export interface BreakerState {
  readonly state: 'closed' | 'open' | 'half-open';
  /** Since when, in milliseconds since 1970. */
  readonly sinceMs: number;
  /** Failures that count against it, since it last answered. */
  readonly failures: number;
}

export interface BreakerOptions {
  /** Failures in a row after which calls are refused, at least 1. Default 3. */
  readonly failures?: number;
  /** Time within which these failures must lie, in milliseconds. Default 30,000. */
  readonly windowMs?: number;
  /** Time between two probes, in milliseconds; a random fifth is added. Default 1000. */
  readonly probeMs?: number;
  /** Told of each change. Must not throw. */
  readonly onStateChange?: (state: BreakerState) => void;
}

/** A connector with a breaker in front. */
export interface BreakerConnector extends StorageConnector {
  state(): BreakerState;
}

/** What probes look for; whether it is there does not matter. */
export const PROBE_KEY = 'kvreel-probe';

/** The longest that a probe may stall: with `probeMs` = 1000, the next one ends a recovery unseen for 3.2 s. */
const PROBE_LIMIT_MS = 2000;

/**
 * Refuses calls at once, with KV_CONNECTOR_UNAVAILABLE, while the far end of `inner` is taken as down: after some failures in a row. A
 * failure is an error that may be tried again, or the end of the caller's time; a miss is none, and neither is a caller who gives up.
 * Probes then look for a fixed key until the first answer. After it a single failure is enough, until a call is answered: a far end
 * may answer probes and still fail calls. `close` closes `inner` too.
 */
export function breaker(inner: StorageConnector, options: BreakerOptions = {}): BreakerConnector {
  checkOptions(options);
  const { failures: limit = 3, windowMs = 30_000, probeMs = 1000, onStateChange } = options;
  const { name, supports } = inner;
  const [sweep, repair] = [inner.sweep?.bind(inner), inner.repair?.bind(inner)];
  const life = lifeCycle(name);
  const probes = lifeCycle(`a probe of ${name}`, PROBE_LIMIT_MS);
  const closing = new AbortController();
  let failedAt: number[] = []; // by `performance.now`
  let current: Omit<BreakerState, 'failures'> = { state: 'closed', sinceMs: Date.now() };
  let down: { readonly sinceMs: number; readonly cause: unknown } | undefined;
  let probeAt = 0;
  let timer: NodeJS.Timeout | undefined;

  const state = (): BreakerState => ({ ...current, failures: failedAt.length });

  function enter(next: BreakerState['state']): void {
    current = { state: next, sinceMs: Date.now() };
    onStateChange?.(state());
  }

  function noteFailure(cause: unknown): void {
    const now = performance.now();
    failedAt = [...failedAt.filter((time) => time > now - windowMs), now];
    if (failedAt.length < limit) return;
    down = { sinceMs: Date.now(), cause };
    scheduleProbe();
    enter('open');
  }

  function scheduleProbe(): void {
    if (closing.signal.aborted) return;
    const delayMs = probeMs * (1 + Math.random() / 5); // many processes see the same server fail; they shall not all ask at once
    probeAt = performance.now() + delayMs;
    timer = setTimeout(() => void probe(), delayMs).unref();
  }

  async function probe(): Promise<void> {
    enter('half-open');
    const isUp = await hasAnswered(probes.run({ signal: closing.signal }, (signal) => inner.has(PROBE_KEY, signal ? { signal } : {})));
    if (closing.signal.aborted) return;
    if (!isUp) scheduleProbe();
    else failedAt = Array<number>(limit - 1).fill(performance.now());
    enter(isUp ? 'closed' : 'open');
  }

  function refusal(): KvError {
    const since = new Date(down?.sinceMs ?? current.sinceMs).toISOString();
    const inMs = Math.max(0, Math.ceil(probeAt - performance.now()));
    const message = `${name} is taken as down since ${since}; it is tried again in ${inMs} ms, see the cause for what failed`;
    return new KvError('KV_CONNECTOR_UNAVAILABLE', message, { cause: down?.cause });
  }

  /** Takes notice of how one call ends. Throws if calls are refused now. */
  function admit(options: CallOptions) {
    options.signal?.throwIfAborted();
    if (current.state !== 'closed' && !closing.signal.aborted) throw refusal();
    const admittedIn = current;
    // A call that began before the far end went down and came back tells of a time that is over.
    const isOfToday = (): boolean => current === admittedIn;
    return {
      answered(): void {
        if (isOfToday()) failedAt = [];
      },
      rejected(error: unknown): void {
        const verdict = judge(error, options);
        if (verdict === 'answered') this.answered();
        if (verdict === 'failed' && isOfToday()) noteFailure(error);
      },
    };
  }

  async function pass<T>(options: CallOptions, work: () => Promise<T>): Promise<T> {
    const call = admit(options);
    try {
      const result = await life.run(options, work);
      call.answered();
      return result;
    } catch (error) {
      call.rejected(error);
      throw error;
    }
  }

  return {
    name,
    supports,
    state,
    get: (key: string, options: GetOptions = {}) => pass(options, () => inner.get(key, options)),
    put: (key: string, value: Uint8Array, options: PutOptions = {}) => pass(options, () => inner.put(key, value, options)),
    has: (key, options = {}) => pass(options, () => inner.has(key, options)),
    delete: (key, options = {}) => pass(options, () => inner.delete(key, options)),

    async *list(prefix, options = {}): AsyncGenerator<ListedValue> {
      const call = admit(options);
      try {
        for await (const listed of inner.list(prefix, options)) {
          call.answered();
          yield listed;
        }
        call.answered();
      } catch (error) {
        call.rejected(error);
        throw error;
      }
    },

    ...(sweep && { sweep: (options: CallOptions = {}) => pass(options, () => sweep(options)) }),
    ...(repair && { repair: (key: string, isSound: SoundnessCheck, options: CallOptions = {}) => pass(options, () => repair(key, isSound, options)) }),

    async close() {
      clearTimeout(timer);
      closing.abort();
      await life.close();
      await inner.close();
    },
  };
}

async function hasAnswered(call: Promise<unknown>): Promise<boolean> {
  try {
    await call;
    return true;
  } catch (error) {
    return judge(error, {}) === 'answered';
  }
}

function checkOptions(options: BreakerOptions): void {
  checkFields(options, ['failures', 'windowMs', 'probeMs', 'onStateChange']);
  const { failures = 1, onStateChange } = options;
  if (!(Number.isSafeInteger(failures) && failures >= 1)) throw new RangeError(`expected \`failures\` to be an integer of at least 1, got ${failures}`);
  for (const field of ['windowMs', 'probeMs'] as const) checkLimit(field, options[field]);
  if (options.probeMs === Infinity) throw new RangeError('expected `probeMs` to be finite, because only a probe ends the refusals');
  if (onStateChange !== undefined && typeof onStateChange !== 'function') throw new TypeError(`expected \`onStateChange\` to be a function, got ${typeof onStateChange}`);
}
