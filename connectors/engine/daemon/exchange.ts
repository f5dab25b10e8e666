// One request and its answer, as the verbs see them.
import { setMaxListeners } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { KvError } from '../../../lib/errors.js';
import { bodyReader, type BodyReader } from './body-reader.js';
import { invalid, WireError } from './wire-error.js';

/** What a JSON body, or the head of a body of frames, may have. */
export const MAX_JSON_BYTES = 4 * 2 ** 20;

export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** What stands for the `:name` parts of the route. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  /** Aborts when the client has gone, or the daemon ends at once. */
  readonly signal: AbortSignal;
  body(): BodyReader;
  /** The body as JSON. Rejects with KV_INVALID_INPUT. */
  json(): Promise<unknown>;
  answer(status: number, value: unknown): void;
  answerBytes(status: number, type: string, bytes: Uint8Array | string): void;
}

/** Makes the exchange of one request; `stopping` aborts when all work is to end. */
export function makeExchange(request: IncomingMessage, response: ServerResponse, target: Pick<Exchange, 'params' | 'query'>, stopping: AbortSignal): Exchange {
  const controller = new AbortController();
  const { signal } = controller;
  // Each entry under way listens to its call, and each call to the end of the daemon.
  setMaxListeners(0, signal, stopping);
  const stop = (): void => controller.abort(stopping.reason);
  if (stopping.aborted) stop();
  stopping.addEventListener('abort', stop, { once: true });
  response.once('close', () => {
    stopping.removeEventListener('abort', stop);
    if (!response.writableFinished) controller.abort(new KvError('KV_CANCELLED', 'the client has gone'));
  });
  let reader: BodyReader | undefined;

  function body(): BodyReader {
    reader ??= bodyReader(request, signal);
    return reader;
  }

  function answerBytes(status: number, type: string, bytes: Uint8Array | string): void {
    response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(bytes) });
    response.end(bytes);
  }

  return {
    request,
    response,
    ...target,
    signal,
    body,
    async json() {
      const text = await body().text(MAX_JSON_BYTES);
      if (text === undefined) throw new WireError(413, 'KV_INVALID_INPUT', `expected JSON of at most ${MAX_JSON_BYTES} bytes; split the call`);
      return parseJson(text);
    },
    answerBytes,
    answer: (status, value) => answerBytes(status, 'application/json', JSON.stringify(value)),
  };
}

/** What a body says. Throws KV_INVALID_INPUT, which repeats nothing of it. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw invalid('expected the body to be JSON');
  }
}
