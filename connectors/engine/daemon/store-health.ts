import type { MeasuredSink, Outcome, Verb } from '../../storage/measured/sink.js';
import { recentTimes, type Times } from './recent-times.js';

/** How the store behind the daemon does. */
export interface StoreHealth {
  /** `idle`: nobody called it yet. `failing`: the last calls failed one after the other. */
  readonly state: 'idle' | 'ok' | 'failing';
  readonly calls: Readonly<Record<string, number>>;
  /** Calls that failed, by outcome: timeout, unavailable, refused, corrupt, other. */
  readonly failures: Readonly<Record<string, number>>;
  readonly in_flight: number;
  readonly read_bytes: number;
  readonly written_bytes: number;
  readonly get?: Times;
  readonly put?: Times;
  readonly last_failure?: { readonly code: string; readonly verb: string; readonly at: string };
  readonly breaker?: string;
}

const FAULTS: ReadonlySet<Outcome> = new Set(['corrupt', 'timeout', 'unavailable', 'refused', 'other']);
/** Failures in a row from which on the store is said to fail: one alone is everyday on a network. */
const IN_A_ROW = 3;
const TIMES = 1024;

/** A sink for `measured`, and what it has seen. */
export function storeHealth(): { readonly sink: MeasuredSink; read(): StoreHealth } {
  const [calls, failures] = [new Map<Verb, number>(), new Map<Outcome, number>()];
  const times = { get: recentTimes(TIMES), put: recentTimes(TIMES) };
  let [inFlight, readBytes, writtenBytes, inARow, ended] = [0, 0, 0, 0, 0];
  let lastFailure: StoreHealth['last_failure'];
  let breaker: string | undefined;

  return {
    sink: {
      begin({ verb }) {
        inFlight++;
        return ({ outcome, durationMs, bytes, errorType = outcome }) => {
          inFlight--;
          if (outcome === 'cancelled') return; // says nothing of the store
          ended++;
          calls.set(verb, (calls.get(verb) ?? 0) + 1);
          if (verb === 'get') readBytes += bytes;
          if (verb === 'put') writtenBytes += bytes;
          if (verb === 'get' || verb === 'put') times[verb].add(durationMs);
          if (!FAULTS.has(outcome)) {
            inARow = 0;
            return;
          }
          inARow++;
          failures.set(outcome, (failures.get(outcome) ?? 0) + 1);
          lastFailure = { code: errorType, verb, at: new Date().toISOString() };
        };
      },
      verifyFailure: () => undefined, // chunks tell of it as misses
      breakerState: (_, state) => void (breaker = state),
    },
    read() {
      const [get, put] = [times.get.read(), times.put.read()];
      return {
        state: ended === 0 ? 'idle' : inARow >= IN_A_ROW ? 'failing' : 'ok',
        calls: Object.fromEntries(calls),
        failures: Object.fromEntries(failures),
        in_flight: inFlight,
        read_bytes: readBytes,
        written_bytes: writtenBytes,
        ...(get && { get }),
        ...(put && { put }),
        ...(lastFailure && { last_failure: lastFailure }),
        ...(breaker !== undefined && { breaker }),
      };
    },
  };
}
