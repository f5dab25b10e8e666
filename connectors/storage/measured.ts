import type { CallOptions, GetOptions, ListedValue, PutOptions, SoundnessCheck, StorageConnector } from '../../lib/store/connector.js';
import { lifeCycle } from './life-cycle.js';
import { errorType, outcomeOf } from './measured/outcome.js';
import type { CallEnd, MeasuredSink, Outcome, Verb } from './measured/sink.js';

export type { CallEnd, MeasuredCall, MeasuredSink, Outcome, Verb } from './measured/sink.js';

/** What a call that did not reject came to. */
type Success = Pick<CallEnd, 'bytes'> & { readonly outcome: Outcome };

const DONE: Success = { outcome: 'done', bytes: 0 };

/**
 * Tells `sink` of every call to `inner` and how it ended. Stands where the numbers are wanted: outside of a breaker it counts what the
 * breaker refused too, inside of it only what was tried. A list ends when its reader is through with it, or leaves it. `close` closes `inner` too.
 */
export function measured(inner: StorageConnector, sink: MeasuredSink): StorageConnector {
  if (typeof sink?.begin !== 'function') throw new TypeError('expected `sink` to be a sink, such as that of prometheusSink()');
  const { name, supports } = inner;
  const [sweep, repair] = [inner.sweep?.bind(inner), inner.repair?.bind(inner)];
  const life = lifeCycle(name);

  /** Starts the clock for one call. */
  function begin(verb: Verb, options: CallOptions) {
    const end = sink.begin({ connector: name, verb });
    const startedAt = performance.now();
    return {
      resolved: (success: Success): void => end({ ...success, durationMs: performance.now() - startedAt }),
      rejected: (error: unknown): void =>
        end({ outcome: outcomeOf(error, options), bytes: 0, durationMs: performance.now() - startedAt, errorType: errorType(error) }),
    };
  }

  async function measure<T>(verb: Verb, options: CallOptions, work: () => Promise<T>, success: (result: T) => Success): Promise<T> {
    const call = begin(verb, options);
    try {
      const result = await life.run({}, work); // without the signal: `inner` heeds it, and nothing is done here that an abort could stop
      call.resolved(success(result));
      return result;
    } catch (error) {
      call.rejected(error);
      throw error;
    }
  }

  return {
    // That of `inner`: measuring changes nothing, and its messages and numbers should say the same.
    name,
    supports,

    get: (key: string, options: GetOptions = {}) =>
      measure('get', options, () => inner.get(key, options), (value) => ({ outcome: value === undefined ? 'absent' : 'hit', bytes: value?.byteLength ?? 0 })),

    put: (key: string, value: Uint8Array, options: PutOptions = {}) =>
      measure('put', options, () => inner.put(key, value, options), () => ({ outcome: 'done', bytes: value.byteLength })),

    has: (key, options = {}) => measure('has', options, () => inner.has(key, options), (isThere) => ({ outcome: isThere ? 'hit' : 'absent', bytes: 0 })),

    delete: (key, options = {}) => measure('delete', options, () => inner.delete(key, options), (wasThere) => ({ outcome: wasThere ? 'done' : 'absent', bytes: 0 })),

    async *list(prefix, options = {}): AsyncGenerator<ListedValue> {
      const call = begin('list', options);
      let failure: { readonly error: unknown } | undefined;
      try {
        yield* inner.list(prefix, options);
      } catch (error) {
        failure = { error };
        throw error;
      } finally {
        // Also reached when the reader leaves half way.
        if (failure === undefined) call.resolved(DONE);
        else call.rejected(failure.error);
      }
    },

    ...(sweep && { sweep: (options: CallOptions = {}) => measure('sweep', options, () => sweep(options), () => DONE) }),
    ...(repair && {
      repair: (key: string, isSound: SoundnessCheck, options: CallOptions = {}) => measure('repair', options, () => repair(key, isSound, options), () => DONE),
    }),

    async close() {
      await life.close();
      await inner.close();
    },
  };
}
