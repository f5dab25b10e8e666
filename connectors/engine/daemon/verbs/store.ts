import { timeLimit } from '../../../../lib/store/time-limit.js';
import { textOf } from '../body-reader.js';
import type { ByteBudget } from '../byte-budget.js';
import { countCall } from '../call-summary.js';
import type { DaemonCore } from '../core.js';
import { MAX_JSON_BYTES, parseJson, type Exchange } from '../exchange.js';
import { frameAnswer, type FrameAnswer } from '../frame-answer.js';
import { CALL_INDEX, FRAME_HEADER_BYTES, FRAME_STATUS, FRAME_TYPE, readFrameHeader } from '../frames.js';
import { readStore, type StoreEntry, type StoreRequest } from '../requests.js';
import type { Route } from '../routes.js';
import type { Segments } from '../segments.js';
import type { Space } from '../spaces.js';
import { invalid } from '../wire-error.js';

/** Entries of one call that are coded at once. */
const LANES = 4;

export interface StoreRouteOptions {
  readonly core: DaemonCore;
  readonly budget: ByteBudget;
  readonly segments: Segments;
  readonly defaultDeadlineMs: number;
}

export function storeRoutes(options: StoreRouteOptions): Route[] {
  return [
    {
      method: 'POST',
      path: '/v1/store',
      async handle(exchange) {
        if (exchange.request.headers['content-type'] === FRAME_TYPE) {
          const head = await readHead(exchange);
          await withCall(exchange, head, options, storeFrames);
        } else {
          await withCall(exchange, readStore(await exchange.json(), true), options, storeSegments);
        }
      },
    },
  ];
}

interface StoreCall extends StoreRouteOptions {
  readonly exchange: Exchange;
  readonly request: StoreRequest;
  readonly signal: AbortSignal;
  readonly answer: FrameAnswer;
  /** Stores one entry and answers it; rejects only when the client has gone. */
  storeEntry(index: number, work: () => Promise<{ readonly rawBytes: number; readonly storedBytes: number }>): Promise<void>;
  /** The work of one entry whose bytes are at hand. */
  put(entry: StoreEntry, data: Uint8Array): Promise<{ readonly rawBytes: number; readonly storedBytes: number }>;
}

async function withCall(exchange: Exchange, request: StoreRequest, options: StoreRouteOptions, work: (call: StoreCall) => Promise<void>): Promise<void> {
  const space: Space = options.core.spaces.get(request.space);
  const deadlineMs = request.deadlineMs ?? options.defaultDeadlineMs;
  const limit = timeLimit(exchange, deadlineMs, 'the call');
  const signal = limit.signal ?? exchange.signal;
  const answer = frameAnswer(exchange, deadlineMs);
  const { counts, take } = countCall();
  const call: StoreCall = {
    ...options,
    exchange,
    request,
    signal,
    answer,
    async put({ hash, start }, data) {
      const { storedBytes } = await options.core.chunks.store(space, { hash, data, start }, signal);
      return { rawBytes: data.byteLength, storedBytes };
    },
    async storeEntry(index, entryWork) {
      try {
        const { rawBytes, storedBytes } = await entryWork();
        counts.hits++;
        counts.raw_bytes += rawBytes;
        counts.stored_bytes += storedBytes;
        await answer.done(index);
      } catch (error) {
        exchange.signal.throwIfAborted(); // nobody to tell
        counts.failed++;
        await answer.failed(index, error);
      }
    },
  };
  try {
    await work(call);
    await answer.end(take());
  } finally {
    limit.release();
  }
}

async function storeSegments({ request, segments, storeEntry, put }: StoreCall): Promise<void> {
  const entries = request.entries.entries();
  const lane = async (): Promise<void> => {
    for (const [index, entry] of entries) {
      await storeEntry(index, async () => {
        if (entry.segment === undefined) throw invalid('expected a segment');
        const use = await segments.use(entry.segment, entry.bytes);
        try {
          return await put(entry, use.bytes);
        } finally {
          use.release();
        }
      });
    }
  };
  await settled(Array.from({ length: LANES }, lane));
}

async function readHead(exchange: Exchange): Promise<StoreRequest> {
  const header = new Uint8Array(FRAME_HEADER_BYTES);
  await exchange.body().read(header);
  const { index, status, bytes } = readFrameHeader(header);
  if (index !== CALL_INDEX || status !== FRAME_STATUS.done) throw invalid('expected the first frame to carry the call: index 0xffffffff, status 0');
  if (bytes > MAX_JSON_BYTES) throw invalid(`expected the first frame to have at most ${MAX_JSON_BYTES} bytes of JSON; split the call`);
  const json = Buffer.alloc(bytes);
  await exchange.body().read(json);
  return readStore(parseJson(textOf([json])), false);
}

// Entries come one after the other and are coded while the next ones come, as far as the budget has memory for them.
async function storeFrames({ exchange, request, budget, signal, storeEntry, put }: StoreCall): Promise<void> {
  const body = exchange.body();
  const header = new Uint8Array(FRAME_HEADER_BYTES);
  const stores: Promise<void>[] = [];
  try {
    for (const [index, entry] of request.entries.entries()) {
      await body.read(header);
      const frame = readFrameHeader(header);
      if (frame.index !== index || frame.status !== FRAME_STATUS.done || frame.bytes !== entry.bytes) {
        throw invalid(`expected frame ${index} to follow with status 0 and the ${entry.bytes} bytes that were announced, got frame ${frame.index} with status ${frame.status} and ${frame.bytes} bytes`);
      }
      // The client's own signal: after the deadline the rest is still taken in, so that each entry can be answered.
      const loan = await budget.lend(entry.bytes, exchange.signal);
      try {
        await body.read(loan.bytes);
      } catch (error) {
        loan.release();
        throw error;
      }
      stores.push(
        storeEntry(index, async () => {
          signal.throwIfAborted();
          return put(entry, loan.bytes);
        }).finally(() => loan.release()),
      );
    }
    if (!(await body.isAtEnd())) throw invalid('expected the body to end after the last entry');
  } catch (error) {
    await Promise.allSettled(stores);
    throw error;
  }
  await settled(stores);
}

// All of them, also where one fails: the call is over when nothing works for it any more.
async function settled(stores: readonly Promise<void>[]): Promise<void> {
  for (const store of await Promise.allSettled(stores)) if (store.status === 'rejected') throw store.reason;
}
