import type { Route } from './routes.js';
import type { Stats } from './stats.js';

/** GET /v1/stats. */
export function statsRoute(read: () => Stats): Route {
  return {
    method: 'GET',
    path: '/v1/stats',
    isAnsweredToTheEnd: true,
    handle(exchange) {
      exchange.response.setHeader('cache-control', 'no-store');
      exchange.answer(200, read());
    },
  };
}
