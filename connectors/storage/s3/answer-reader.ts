import { BodyReader } from './body-reader.js';
import { HeadReader, type ResponseHead } from './response-head.js';
import type { Sink } from './sink.js';
import type { Answer, Receive } from './transport.js';

/** Reads one answer to a GET, piece by piece as it comes. It and `receive` say what they do not take by a throw; then it must not be used again. */
export class AnswerReader {
  readonly #receive: Receive;
  readonly #headReader = new HeadReader();
  #started: { readonly head: ResponseHead; readonly sink: Sink; readonly body: BodyReader } | undefined;

  constructor(receive: Receive) {
    this.#receive = receive;
  }

  /** Whether nothing more is to be read: the answer is whole, or its sink has enough. */
  get isDone(): boolean {
    return this.#started !== undefined && (this.#started.body.isWhole || this.#started.body.isEnough);
  }

  /** Whether the end of the connection is that of the answer. */
  get isUntilClose(): boolean {
    return this.#started?.body.isUntilClose ?? false;
  }

  /** Whether another request may follow on the connection, once this answer is done. */
  get keepsAlive(): boolean {
    return this.#started !== undefined && this.#started.head.keepsAlive && this.#started.body.isWhole;
  }

  /** See BodyReader. */
  get room(): Uint8Array | undefined {
    return this.#started?.body.room;
  }

  /** See BodyReader. */
  advance(count: number): void {
    this.#started?.body.advance(count);
  }

  /** Takes bytes up to the answer's end, and gives where that is. */
  push(bytes: Uint8Array): number {
    if (this.#started !== undefined) return this.#started.body.push(bytes, 0);
    const { head, next } = this.#headReader.read(bytes, 0);
    if (head === undefined) return next;
    const sink = this.#receive(head);
    const body = new BodyReader(head.length, sink);
    this.#started = { head, sink, body };
    return body.push(bytes, next);
  }

  /** The answer, once it is done. */
  end(): Answer {
    if (this.#started === undefined) throw new Error('expected an answer that is done');
    const { head, sink } = this.#started;
    return { status: head.status, headers: head.headers, body: sink.end() };
  }
}
