import { timeLimit } from '../../../../lib/store/time-limit.js';
import type { ByteBudget } from '../byte-budget.js';
import { countCall } from '../call-summary.js';
import type { DaemonCore } from '../core.js';
import type { Exchange } from '../exchange.js';
import { frameAnswer } from '../frame-answer.js';
import { readFetch, type FetchEntry, type FetchRequest } from '../requests.js';
import type { Route } from '../routes.js';
import type { Segments } from '../segments.js';
import type { Space } from '../spaces.js';
import { invalid } from '../wire-error.js';

/** Entries of one call that are worked on at once: while one is written to the client, others are read and decoded. */
const LANES = 4;

export interface FetchRouteOptions {
  readonly core: DaemonCore;
  readonly budget: ByteBudget;
  readonly segments: Segments;
  readonly defaultDeadlineMs: number;
}

export function fetchRoutes(options: FetchRouteOptions): Route[] {
  const { core, defaultDeadlineMs } = options;
  return [
    {
      method: 'POST',
      path: '/v1/fetch',
      async handle(exchange) {
        const request = readFetch(await exchange.json());
        const space = core.spaces.get(request.space);
        checkLayers(request, space);
        const deadlineMs = request.deadlineMs ?? defaultDeadlineMs;
        const limit = timeLimit(exchange, deadlineMs, 'the call');
        try {
          await answerFetch(exchange, { ...options, request, space, deadlineMs, signal: limit.signal ?? exchange.signal });
        } finally {
          limit.release();
        }
      },
    },
  ];
}

interface FetchCall extends FetchRouteOptions {
  readonly request: FetchRequest;
  readonly space: Space;
  readonly deadlineMs: number;
  /** The client's, and the deadline's. */
  readonly signal: AbortSignal;
}

async function answerFetch(exchange: Exchange, call: FetchCall): Promise<void> {
  const { core, budget, segments, request, space, deadlineMs, signal } = call;
  const answer = frameAnswer(exchange, deadlineMs);
  const { counts, take } = countCall();

  /** Fetches one entry into `into` and answers it. */
  async function fetchInto(index: number, { hash }: FetchEntry, into: Uint8Array, payload: Uint8Array | undefined): Promise<void> {
    const outcome = await core.chunks.fetch(space, { hash, ...(request.layers && { layers: request.layers }) }, into, signal);
    if (!outcome.isHit) {
      counts.misses++;
      return answer.miss(index);
    }
    counts.hits++;
    counts.raw_bytes += into.byteLength;
    counts.stored_bytes += outcome.storedBytes;
    return answer.done(index, payload);
  }

  async function fetchEntry(index: number, entry: FetchEntry): Promise<void> {
    if (entry.segment !== undefined) {
      const use = await segments.use(entry.segment, entry.bytes);
      try {
        return await fetchInto(index, entry, use.bytes, undefined);
      } finally {
        use.release();
      }
    }
    const loan = await budget.lend(entry.bytes, signal);
    try {
      await fetchInto(index, entry, loan.bytes, loan.bytes);
    } finally {
      loan.release();
    }
  }

  const entries = request.entries.entries();
  const lane = async (): Promise<void> => {
    for (const [index, entry] of entries) {
      try {
        await fetchEntry(index, entry);
      } catch (error) {
        exchange.signal.throwIfAborted(); // nobody to tell
        counts.failed++;
        await answer.failed(index, error);
      }
    }
  };
  await allSettled(Array.from({ length: LANES }, lane));
  await answer.end(take());
}

// All of them, also where one fails: the call is over when nothing works for it any more.
async function allSettled(lanes: readonly Promise<void>[]): Promise<void> {
  for (const lane of await Promise.allSettled(lanes)) if (lane.status === 'rejected') throw lane.reason;
}

function checkLayers({ layers }: FetchRequest, { namespace }: Space): void {
  if (layers === undefined) return;
  const { order, layers: count } = namespace.geometry;
  if (order === 'bytes') throw invalid('expected no layers: the space holds bytes, whose layout nobody knows');
  if (layers[1] > count) throw invalid(`expected layers to end at ${count} or before, got ${layers[1]}`);
}
