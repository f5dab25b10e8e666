// Types only: what is traced decides which version of @opentelemetry/api runs, and it brings the tracer.
import type { SpanKind, SpanStatusCode, Tracer } from '@opentelemetry/api';
import { errorType } from './outcome.js';
import type { MeasuredSink, Outcome } from './sink.js';

const CLIENT: SpanKind.CLIENT = 2;
const ERROR: SpanStatusCode.ERROR = 2;

/** Outcomes that somebody should look at. A miss is everyday, and a caller may give up. */
const FAULTS: ReadonlySet<Outcome> = new Set(['corrupt', 'timeout', 'unavailable', 'refused', 'other']);

/**
 * Makes a span of each call, below the span that is active when it begins, and a span without length of each verify failure and each
 * change of a breaker. Spans hold no keys. Needs the package @opentelemetry/api, whose `trace.getTracer('kvreel')` is a tracer.
 */
export function openTelemetrySink(tracer: Tracer): MeasuredSink {
  return {
    begin({ connector, verb }) {
      const span = tracer.startSpan(`kvreel.storage.${verb}`, { kind: CLIENT, attributes: { 'kvreel.connector': connector, 'kvreel.verb': verb } });
      return ({ outcome, bytes, errorType: type }) => {
        span.setAttributes({ 'kvreel.outcome': outcome, 'kvreel.bytes': bytes, ...(type !== undefined && { 'error.type': type }) });
        if (FAULTS.has(outcome)) span.setStatus({ code: ERROR });
        span.end();
      };
    },

    verifyFailure(connector, error) {
      const span = tracer.startSpan('kvreel.storage.verify_failure', { attributes: { 'kvreel.connector': connector, 'error.type': errorType(error) } });
      span.setStatus({ code: ERROR });
      span.end();
    },

    breakerState(connector, state) {
      tracer.startSpan('kvreel.storage.breaker_change', { attributes: { 'kvreel.connector': connector, 'kvreel.breaker_state': state } }).end();
    },
  };
}
