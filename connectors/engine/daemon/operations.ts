// What an operator sees of a daemon: its log, its metrics, its spans, and the live page with its numbers.
import { trace } from '@opentelemetry/api';
import { Registry } from 'prom-client';
import type { StorageConnector } from '../../../lib/store/connector.js';
import { measured, type MeasuredSink } from '../../storage/measured.js';
import { openTelemetrySink } from '../../storage/measured/opentelemetry.js';
import { prometheusSink } from '../../storage/measured/prometheus.js';
import type { LmEvents } from '../lm/events.js';
import type { DaemonCore } from './core.js';
import type { DaemonEvents } from './events.js';
import { loggingObserver, type Logger } from './logging.js';
import { metricsRoute, prometheusObserver } from './metrics.js';
import { pageRoute } from './page.js';
import type { Route } from './routes.js';
import { statsRoute } from './stats-route.js';
import { statsRecorder } from './stats.js';
import { storeHealth } from './store-health.js';
import { tracedRoute } from './tracing.js';

/** What is to be shown. */
export interface OperationsOptions {
  readonly logger: Logger;
  /** Of the package. */
  readonly version: string;
  /** As people may read it: without credentials. */
  readonly storeName: string;
}

/** To be put into `startDaemon`, and around the store before. */
export interface Operations {
  /** The same store, whose calls are counted. */
  observed(connector: StorageConnector): StorageConnector;
  readonly observers: readonly Partial<DaemonEvents>[];
  readonly routes: (core: DaemonCore) => readonly Route[];
  /** The same route with a span around each request. */
  readonly around: (route: Route) => Route;
  /** For the lm:// server. */
  readonly lmEvents: LmEvents;
  /** For a breaker around the store. */
  readonly onBreakerState: (state: 'closed' | 'open' | 'half-open') => void;
}

/** Makes what an operator sees of one daemon. */
export function makeOperations({ logger, version, storeName }: OperationsOptions): Operations {
  let core: DaemonCore | undefined;
  const describe = (space: string) => core?.spaces.describe(space);
  const register = new Registry();
  const tracer = trace.getTracer('kvreel', version);
  const health = storeHealth();
  const sink = allSinks([prometheusSink(register), openTelemetrySink(tracer), health.sink]);
  const stats = statsRecorder({ version, storeName, describe });
  const metrics = prometheusObserver(register, describe);
  const logging = loggingObserver(logger);
  return {
    observed: (connector) => measured(connector, sink),
    observers: [metrics, stats.observer, logging],
    routes(its) {
      core = its;
      return [metricsRoute(register), statsRoute(() => stats.read(health.read())), pageRoute()];
    },
    around: (route) => tracedRoute(route, tracer),
    lmEvents: {
      onRequest(event) {
        metrics.onRequest(event);
        stats.onLmRequest(event);
        logging.onRequest(event);
      },
      onClientLost(reason) {
        metrics.onClientLost(reason);
        stats.onLmClientLost();
        logging.onClientLost(reason);
      },
      onWarning: logging.onWarning,
    },
    onBreakerState(state) {
      sink.breakerState(storeName, state);
      logger.warn({ breaker: state }, `the store's breaker is ${state}`);
    },
  };
}

function allSinks(sinks: readonly MeasuredSink[]): MeasuredSink {
  return {
    begin(call) {
      const ends = sinks.map((sink) => sink.begin(call));
      return (end) => ends.forEach((tell) => tell(end));
    },
    verifyFailure: (connector, error) => sinks.forEach((sink) => sink.verifyFailure(connector, error)),
    breakerState: (connector, state) => sinks.forEach((sink) => sink.breakerState(connector, state)),
  };
}
