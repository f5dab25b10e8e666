import type { Exchange } from '../exchange.js';
import { integer, optional, record, text } from '../fields.js';
import type { Route } from '../routes.js';
import type { SegmentInfo, Segments } from '../segments.js';
import { invalid } from '../wire-error.js';

const FIELDS = new Set(['bytes', 'path']);
const RENEW_FIELDS = new Set(['generation']);

export function segmentRoutes(segments: Segments): Route[] {
  return [
    {
      method: 'POST',
      path: '/v1/segments',
      async handle(exchange) {
        const { bytes, path } = record(await exchange.json(), 'the request', FIELDS);
        if ((bytes === undefined) === (path === undefined)) throw invalid('expected either bytes, for a segment of the daemon, or path, for one of the client');
        const info = path === undefined ? await segments.create(integer(bytes, 'bytes', 1)) : segments.attach(text(path, 'path'));
        exchange.answer(200, segmentJson(info));
      },
    },
    {
      method: 'POST',
      path: '/v1/segments/:id/renew',
      async handle(exchange) {
        const generation = await generationOf(exchange);
        exchange.answer(200, segmentJson(segments.renew(exchange.params.id ?? '', generation)));
      },
    },
    {
      method: 'DELETE',
      path: '/v1/segments/:id',
      async handle(exchange) {
        await segments.release(exchange.params.id ?? '');
        exchange.answer(200, {});
      },
    },
  ];
}

/** The generation that the client means, if it sends one. */
async function generationOf({ request, json }: Exchange): Promise<number | undefined> {
  if ((request.headers['content-length'] ?? '0') === '0') return undefined;
  const { generation } = record(await json(), 'the request', RENEW_FIELDS);
  return optional(generation, (given) => integer(given, 'generation', 0));
}

function segmentJson({ id, generation, path, bytes, leaseMs }: SegmentInfo): Record<string, unknown> {
  return { segment: id, generation, path, bytes, lease_ms: leaseMs };
}
