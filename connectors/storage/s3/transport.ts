// One HTTP exchange over a pool of connections to one server. No redirect is followed: requests go to `origin`, whatever an answer says.
// A connection whose call was given up is destroyed, so that nothing writes to the caller's memory late.
import type { IncomingHttpHeaders } from 'node:http';
import { Pool, type Dispatcher } from 'undici';
import { failedConnection } from './failure.js';
import type { S3Settings } from './options.js';
import type { Sink } from './sink.js';

/** A signed request. */
export interface WireRequest {
  readonly method: 'GET' | 'PUT' | 'HEAD' | 'DELETE' | 'POST';
  /** Path and query, encoded. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Value of a GET's `range` header, which is not signed: requests that differ in it alone have the same `headers`. */
  readonly range?: string;
  readonly body?: Uint8Array;
}

/** Status and headers of an answer. */
export interface AnswerHead {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
}

export interface Answer extends AnswerHead {
  readonly body: Uint8Array;
}

/** Looks at an answer's head and says where its body goes. What it throws ends the exchange, before a byte of the body is read. */
export type Receive = (head: AnswerHead) => Sink;

export interface Transport {
  /** Rejects with the signal's reason, what `receive` or its sink threw, or an S3Failure of the connection. */
  exchange(request: WireRequest, receive: Receive, signal: AbortSignal | undefined): Promise<Answer>;
  /** Ends all connections. */
  close(): Promise<void>;
}

/** For everything but GETs of objects, which `getTransport` is for. Connections are made when they are needed. */
export function transport({ origin, tls, maxConnections }: S3Settings): Transport {
  const pool = new Pool(origin, { connections: maxConnections, connect: tls });
  return {
    exchange: (request, receive, signal) => new Promise((resolve, reject) => {
      const exchange = new Exchange({ receive, signal, resolve, reject });
      const { method, path, headers, range, body = null } = request;
      pool.dispatch({ method, path, headers: range === undefined ? headers : { ...headers, range }, body: body as Buffer | null }, exchange);
    }),
    close: () => pool.destroy(),
  };
}

interface Ends {
  readonly receive: Receive;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (cause: unknown) => void;
}

/** What undici calls while an exchange goes on. Once settled, it touches no memory and takes no more bytes. */
class Exchange implements Dispatcher.DispatchHandler {
  readonly #ends: Ends;
  #controller: Dispatcher.DispatchController | undefined;
  #head: AnswerHead | undefined;
  #sink: Sink | undefined;
  #isSettled = false;

  constructor(ends: Ends) {
    this.#ends = ends;
    // Not only once it is sent: it may stand in the pool's queue.
    ends.signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (ends.signal?.aborted) this.#onAbort();
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#isSettled) this.#drop();
  }

  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (this.#isSettled || status < 200) return;
    try {
      this.#head = { status, headers };
      this.#sink = this.#ends.receive(this.#head);
    } catch (cause) {
      this.#fail(cause);
    }
  }

  onResponseData(_: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#isSettled || this.#sink === undefined) return;
    try {
      if (this.#sink.write(chunk)) return;
    } catch (cause) {
      return this.#fail(cause);
    }
    this.#finish(); // it has enough
    this.#drop();
  }

  onResponseEnd(): void {
    if (!this.#isSettled) this.#finish();
  }

  onResponseError(_: Dispatcher.DispatchController, cause: Error): void {
    if (!this.#isSettled) this.#fail(failedConnection(cause));
  }

  readonly #onAbort = (): void => {
    if (!this.#isSettled) this.#fail(this.#ends.signal?.reason);
  };

  #finish(): void {
    const [head, sink] = [this.#head, this.#sink];
    if (head === undefined || sink === undefined) return this.#fail(failedConnection(new Error('the answer has no head')));
    try {
      const answer = { ...head, body: sink.end() };
      this.#settle();
      this.#ends.resolve(answer);
    } catch (cause) {
      this.#fail(cause);
    }
  }

  #fail(cause: unknown): void {
    this.#settle();
    this.#ends.reject(cause);
    this.#drop();
  }

  #settle(): void {
    this.#isSettled = true;
    this.#ends.signal?.removeEventListener('abort', this.#onAbort);
  }

  /** Destroys the connection, if the exchange has one. */
  #drop(): void {
    this.#controller?.abort(new Error('the exchange was given up'));
  }
}
