// The daemon's numbers for Prometheus. No label holds a key, a space or a model: they would make a time series each.
import { collectDefaultMetrics, Counter, Histogram, type Registry } from 'prom-client';
import type { Namespace } from '../../../lib/store/namespace.js';
import type { LmEvents } from '../lm/events.js';
import type { DaemonEvents } from './events.js';
import type { Route } from './routes.js';
import { rungName } from './stats.js';

// From a tenth of a millisecond, a lookup from memory, to ten seconds, beyond which every deadline has passed.
const BUCKETS_SECONDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Counts what happens in `register`, beside the process's own numbers. One for a register. `describe` tells what a space is. */
export function prometheusObserver(register: Registry, describe: (space: string) => Namespace | undefined): Partial<DaemonEvents> & Pick<LmEvents, 'onRequest' | 'onClientLost'> {
  const registers = [register];
  const counter = (name: string, help: string, labelNames: string[] = []) => new Counter({ name: `kvreel_${name}`, help, labelNames, registers });
  const histogram = (name: string, help: string, labelNames: string[] = []) => new Histogram({ name: `kvreel_${name}`, help, labelNames, buckets: BUCKETS_SECONDS, registers });
  collectDefaultMetrics({ register });

  const hits = counter('hits_total', 'Chunks that were fetched, by rung', ['rung']);
  const misses = counter('misses_total', 'Chunks that were asked for and not given, by cause', ['cause']);
  const failures = counter('failures_total', 'Chunks that could be neither given nor stored, by verb and error code', ['verb', 'code']);
  const stored = counter('stored_total', 'Chunks that were stored: coded, or present already', ['rung', 'how']);
  const fetchedRaw = counter('fetched_raw_bytes_total', 'Bytes of the tensors that were fetched', ['rung']);
  const fetchedStored = counter('fetched_stored_bytes_total', 'Bytes that were read of their objects', ['rung']);
  const storedRaw = counter('stored_raw_bytes_total', 'Bytes of the tensors that were coded and stored', ['rung']);
  const storedStored = counter('stored_bytes_total', 'Bytes of their objects', ['rung']);
  const looked = counter('lookup_hashes_total', 'Hashes that were looked up, by answer', ['answer']);
  const requests = counter('http_requests_total', 'Requests that were answered; status 499 where the client had gone', ['method', 'route', 'status']);
  const lmRequests = counter('lm_requests_total', 'Requests over lm://, by what became of them', ['command', 'outcome']);
  const lmBytes = counter('lm_raw_bytes_total', 'Bytes of tensors over lm://: put and stored, got and sent', ['command']);
  const lmStored = counter('lm_stored_bytes_total', 'Bytes of the objects of these tensors', ['command']);
  const lmLost = counter('lm_clients_lost_total', 'Clients of lm:// that were sent away or dropped');
  const fetchSeconds = histogram('fetch_duration_seconds', 'From the request of a chunk until it is decoded, or a miss');
  const storeSeconds = histogram('store_duration_seconds', 'From a chunk until it is stored');
  const lookupSeconds = histogram('lookup_duration_seconds', 'Time of a lookup');
  const requestSeconds = histogram('http_request_duration_seconds', 'Time of a request, its answer included', ['route']);
  const lmSeconds = histogram('lm_request_duration_seconds', 'Time of a request over lm://', ['command']);

  return {
    lookup({ asked, hits: found, unknown, ms }) {
      looked.inc({ answer: 'hit' }, found);
      looked.inc({ answer: 'unknown' }, unknown);
      looked.inc({ answer: 'miss' }, asked - found - unknown);
      lookupSeconds.observe(ms / 1000);
    },
    hit({ space, rawBytes, storedBytes, ms }) {
      const rung = rungName(describe(space));
      hits.inc({ rung });
      fetchedRaw.inc({ rung }, rawBytes);
      fetchedStored.inc({ rung }, storedBytes);
      fetchSeconds.observe(ms / 1000);
    },
    miss({ cause, ms }) {
      misses.inc({ cause });
      fetchSeconds.observe(ms / 1000);
    },
    stored({ space, rawBytes, storedBytes, wasPresent, ms }) {
      const rung = rungName(describe(space));
      stored.inc({ rung, how: wasPresent ? 'present' : 'coded' });
      storeSeconds.observe(ms / 1000);
      if (wasPresent) return;
      storedRaw.inc({ rung }, rawBytes);
      storedStored.inc({ rung }, storedBytes);
    },
    failed: ({ verb, code }) => failures.inc({ verb, code }),
    request({ method, route, status, ms }) {
      // A method is the client's text: those that no route has are one.
      requests.inc({ method: route === 'unknown' ? 'any' : method, route, status: String(status) });
      requestSeconds.observe({ route }, ms / 1000);
    },
    onRequest({ command, outcome, rawBytes, storedBytes, ms }) {
      lmRequests.inc({ command, outcome });
      lmSeconds.observe({ command }, ms / 1000);
      if (outcome !== 'hit' && outcome !== 'stored') return;
      lmBytes.inc({ command }, rawBytes);
      lmStored.inc({ command }, storedBytes);
    },
    onClientLost: () => lmLost.inc(),
  };
}

/** GET /metrics. */
export function metricsRoute(register: Registry): Route {
  return {
    method: 'GET',
    path: '/metrics',
    isAnsweredToTheEnd: true,
    handle: async (exchange) => exchange.answerBytes(200, register.contentType, await register.metrics()),
  };
}
