import { Counter, Gauge, Histogram, register as globalRegister, type Registry } from 'prom-client';
import { errorType } from './outcome.js';
import type { MeasuredSink } from './sink.js';

/** From a tenth of a millisecond, a cached small read, to ten seconds, beyond which every deadline has passed. */
const DURATION_BUCKETS_SECONDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

const BREAKER_STATES = ['closed', 'open', 'half-open'] as const;

/**
 * Keeps the numbers of measured connectors as Prometheus metrics in `register`, by default prom-client's global one. One for all
 * connectors of a register: a second one throws, because the metrics are there already. Needs the package prom-client.
 */
export function prometheusSink(register: Registry = globalRegister): MeasuredSink {
  const registers = [register];
  const calls = new Counter({
    name: 'kvreel_storage_calls_total',
    help: 'Storage calls that ended, by outcome: hit, done, or the cause of a miss',
    labelNames: ['connector', 'verb', 'outcome'],
    registers,
  });
  const durations = new Histogram({
    name: 'kvreel_storage_call_duration_seconds',
    help: 'Time that storage calls took, whatever their outcome',
    labelNames: ['connector', 'verb'],
    buckets: DURATION_BUCKETS_SECONDS,
    registers,
  });
  const inFlight = new Gauge({ name: 'kvreel_storage_calls_in_flight', help: 'Storage calls that run now', labelNames: ['connector', 'verb'], registers });
  const bytesIn = new Counter({ name: 'kvreel_storage_read_bytes_total', help: 'Value bytes that gets gave', labelNames: ['connector'], registers });
  const bytesOut = new Counter({ name: 'kvreel_storage_written_bytes_total', help: 'Value bytes that puts took', labelNames: ['connector'], registers });
  const verifyFailures = new Counter({
    name: 'kvreel_storage_verify_failures_total',
    help: 'Objects that a get gave and the store did not believe, by error code',
    labelNames: ['connector', 'code'],
    registers,
  });
  const breaker = new Gauge({
    name: 'kvreel_storage_breaker_state',
    help: '1 for the state that the breaker is in, 0 for the others',
    labelNames: ['connector', 'state'],
    registers,
  });

  return {
    begin(call) {
      const { connector, verb } = call;
      inFlight.inc({ connector, verb });
      return ({ outcome, durationMs, bytes }) => {
        inFlight.dec({ connector, verb });
        calls.inc({ connector, verb, outcome });
        durations.observe({ connector, verb }, durationMs / 1000);
        if (bytes > 0) (verb === 'put' ? bytesOut : bytesIn).inc({ connector }, bytes);
      };
    },

    verifyFailure: (connector, error) => verifyFailures.inc({ connector, code: errorType(error) }),

    breakerState(connector, now) {
      for (const state of BREAKER_STATES) breaker.set({ connector, state }, state === now ? 1 : 0);
    },
  };
}
