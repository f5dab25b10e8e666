import { timeLimit } from '../../../../lib/store/time-limit.js';
import type { DaemonCore } from '../core.js';
import { readHashes, readLookup } from '../requests.js';
import type { Route } from '../routes.js';

export function lookRoutes({ spaces, looks, events }: DaemonCore, defaultDeadlineMs: number): Route[] {
  function tell(space: string, hits: string, begin: number): void {
    events.lookup({ space, asked: hits.length, hits: countOf(hits, '1'), unknown: countOf(hits, '?'), ms: performance.now() - begin });
  }
  return [
    {
      method: 'POST',
      path: '/v1/lookup',
      async handle(exchange) {
        const begin = performance.now();
        const { space, hashes, waitMs } = readLookup(await exchange.json());
        const { digest } = spaces.get(space);
        const hits = await looks.lookup(digest, hashes, waitMs, exchange.signal);
        exchange.answer(200, { hits, prefix: prefixOf(hits) });
        tell(digest, hits, begin);
      },
    },
    {
      method: 'POST',
      path: '/v1/exists',
      async handle(exchange) {
        const begin = performance.now();
        const { space, hashes, deadlineMs = defaultDeadlineMs } = readHashes(await exchange.json(), ['deadline_ms']);
        const { digest } = spaces.get(space);
        const limit = timeLimit(exchange, deadlineMs, 'the call');
        try {
          const hits = await looks.exists(digest, hashes, limit.signal ?? exchange.signal);
          exchange.answer(200, { hits, prefix: prefixOf(hits) });
          tell(digest, hits, begin);
        } finally {
          limit.release();
        }
      },
    },
  ];
}

/** Length of the leading run of hits. */
function prefixOf(hits: string): number {
  const end = hits.search(/[^1]/);
  return end === -1 ? hits.length : end;
}

function countOf(hits: string, wanted: string): number {
  let count = 0;
  for (let at = hits.indexOf(wanted); at !== -1; at = hits.indexOf(wanted, at + 1)) count++;
  return count;
}
