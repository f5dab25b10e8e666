import { timeLimit } from '../../../../lib/store/time-limit.js';
import type { DaemonCore } from '../core.js';
import type { Route } from '../routes.js';
import { WireError } from '../wire-error.js';

const READY_LIMIT_MS = 2000;
/** A key that nobody stores: the store answers, whatever it answers. */
const PROBE_KEY = 'kvreel/ready';

export function healthRoutes({ connector }: DaemonCore, isStopping: () => boolean): Route[] {
  return [
    { method: 'GET', path: '/health', isOpen: true, isAnsweredToTheEnd: true, handle: (exchange) => exchange.answer(200, { status: 'ok' }) },
    {
      method: 'GET',
      path: '/ready',
      isAnsweredToTheEnd: true,
      async handle(exchange) {
        if (isStopping()) throw new WireError(503, 'KV_CLOSED', 'the daemon is stopping');
        const limit = timeLimit(exchange, READY_LIMIT_MS, 'the store');
        try {
          await connector.has(PROBE_KEY, limit.signal && { signal: limit.signal });
          exchange.answer(200, { status: 'ready' });
        } finally {
          limit.release();
        }
      },
    },
  ];
}
