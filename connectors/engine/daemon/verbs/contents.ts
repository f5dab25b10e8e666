// What is stored: prefetched, deleted, listed, counted.
import { listStored } from '../../../../lib/store/listing.js';
import { inParallel } from '../../../../lib/store/maintenance/in-parallel.js';
import { isPrefixHash } from '../../../../lib/store/namespace.js';
import type { DaemonCore } from '../core.js';
import { readHashes } from '../requests.js';
import type { Route } from '../routes.js';
import { invalid } from '../wire-error.js';

const DELETES_AT_ONCE = 16;
const DEFAULT_KEYS = 1000;
const MAX_KEYS = 10_000;

export function contentRoutes(core: DaemonCore, maxBytes: number | undefined): Route[] {
  const { spaces, chunks, prefetches, connector } = core;
  return [
    {
      method: 'POST',
      path: '/v1/prefetch',
      async handle(exchange) {
        const { space, hashes } = readHashes(await exchange.json());
        exchange.answer(202, { accepted: prefetches.start(spaces.get(space).digest, hashes) });
      },
    },
    {
      method: 'POST',
      path: '/v1/delete',
      async handle(exchange) {
        const request = readHashes(await exchange.json());
        const space = spaces.get(request.space);
        let deleted = 0;
        for await (const wasThere of inParallel(request.hashes, DELETES_AT_ONCE, (hash) => chunks.delete(space, hash, exchange.signal))) {
          if (wasThere) deleted++;
        }
        exchange.answer(200, { deleted });
      },
    },
    {
      method: 'GET',
      path: '/v1/keys',
      async handle(exchange) {
        const { query, signal } = exchange;
        const { digest } = spaces.get(query.get('space') ?? '');
        const limit = numberOf(query.get('limit') ?? String(DEFAULT_KEYS));
        const cursor = query.get('cursor') ?? '';
        if (cursor !== '' && !isPrefixHash(cursor)) throw invalid('expected cursor to be one that an answer gave');
        exchange.answer(200, await pageOfKeys(core, { digest, limit, cursor, signal }));
      },
    },
    {
      method: 'GET',
      path: '/v1/usage',
      async handle(exchange) {
        const bySpace = new Map<string, { objects: number; stored_bytes: number }>();
        let [objects, storedBytes] = [0, 0];
        for await (const { namespace, bytes } of listStored(connector, 'chunks', exchange)) {
          const total = bySpace.get(namespace) ?? { objects: 0, stored_bytes: 0 };
          bySpace.set(namespace, total);
          total.objects++;
          total.stored_bytes += bytes;
          objects++;
          storedBytes += bytes;
        }
        const perSpace = [...bySpace].map(([space, total]) => ({ space, ...modelOf(spaces.describe(space)?.model), ...total }));
        exchange.answer(200, { objects, stored_bytes: storedBytes, ...(maxBytes !== undefined && { max_bytes: maxBytes }), spaces: perSpace });
      },
    },
  ];
}

// Connectors list in no order: the page is the smallest hashes above the cursor, and no more than two pages are held at once.
async function pageOfKeys(
  { connector }: DaemonCore,
  { digest, limit, cursor, signal }: { readonly digest: string; readonly limit: number; readonly cursor: string; readonly signal: AbortSignal },
): Promise<Record<string, unknown>> {
  const prefix = `chunks/${digest}/`;
  let page: { hash: string; stored_bytes: number }[] = [];
  let above = 0; // the cursor
  const cut = (): void => {
    page.sort((a, b) => (a.hash < b.hash ? -1 : 1));
    page = page.slice(0, limit);
  };
  for await (const { key, bytes } of connector.list(prefix, { signal })) {
    const hash = key.slice(prefix.length);
    if (!isPrefixHash(hash) || hash <= cursor) continue;
    above++;
    page.push({ hash, stored_bytes: bytes });
    if (page.length >= 2 * limit) cut();
  }
  cut();
  const last = page.at(-1);
  return { keys: page, ...(above > limit && last !== undefined && { cursor: last.hash }) };
}

function modelOf(model: string | undefined): { model?: string } {
  return model === undefined ? {} : { model };
}

function numberOf(text: string): number {
  const limit = Number(text);
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_KEYS) throw invalid(`expected limit to be from 1 to ${MAX_KEYS}`);
  return limit;
}
