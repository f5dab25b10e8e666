// One connection that GETs go over, one at a time. A large body is read straight into its memory. A connection whose call was aborted, or
// whose answer is not as it must be, is destroyed: so nothing writes to a caller's memory late, and no call meets what another one left.
import { connect as connectPlain, isIP, type OnReadOpts, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { abortable } from '../abortable.js';
import { LostConnection } from '../lost-connection.js';
import { ReceiveThreshold } from '../receive-threshold.js';
import { AnswerReader } from './answer-reader.js';
import type { S3Settings } from './options.js';
import type { Answer, Receive } from './transport.js';

/** For heads and the starts of bodies, which are copied from it. */
const READ_BUFFER_BYTES = 16 << 10;
/** So much of a body is worth a read of its own, straight into its place: test/bench/s3.bench.ts. */
const DIRECT_BYTES = 16 << 10;
const KEEP_ALIVE_MS = 30_000;
/** Servers and what stands before them end unused connections after five seconds or more. */
const IDLE_MS = 4000;
const IDLE_LOOK_MS = 500;

interface Call {
  readonly answer: AnswerReader;
  hadAnswer: boolean;
  resolve(answer: Answer): void;
  reject(cause: unknown): void;
}

export class GetConnection {
  readonly #socket: Socket;
  #call: Call | undefined;
  #error: unknown;
  /** Since when it is unused, by `performance.now`. Before the first call it is not: it may take long to connect. */
  #restedAt = Infinity;
  readonly #idleTimer: NodeJS.Timeout;

  private constructor({ origin, tls }: S3Settings) {
    const isSecure = origin.protocol === 'https:';
    const host = origin.hostname.replace(/^\[|\]$/g, '');
    const where = { host, port: Number(origin.port) || (isSecure ? 443 : 80) };
    const name = isIP(host) === 0 ? { servername: host } : {};
    const onread = this.#reading(isSecure); // tls.connect knows it too, though its types do not
    this.#socket = isSecure ? connectTls(Object.assign({ ...where, ...name, ...tls, ALPNProtocols: ['http/1.1'] }, { onread })) : connectPlain({ ...where, onread });
    this.#socket.setNoDelay(true);
    this.#socket.setKeepAlive(true, KEEP_ALIVE_MS);
    this.#socket.once('error', (cause) => (this.#error = cause));
    this.#socket.once('close', () => this.#closed());
    // One timer that looks now and then: to start one after each call costs calls time.
    this.#idleTimer = setInterval(() => this.#endIfIdle(), IDLE_LOOK_MS).unref();
  }

  /** Connects. Rejects with a LostConnection or the signal's reason. */
  static async open(settings: S3Settings, signal: AbortSignal | undefined): Promise<GetConnection> {
    signal?.throwIfAborted();
    const connection = new GetConnection(settings);
    try {
      // Nothing is sent before: over TLS, the certificate has been verified by then.
      await abortable(connection.#connected(settings.origin.protocol === 'https:' ? 'secureConnect' : 'connect'), signal);
      return connection;
    } catch (cause) {
      connection.destroy();
      throw cause;
    }
  }

  /** Whether another call may use it. */
  get isUsable(): boolean {
    return !this.#socket.destroyed && !this.#socket.readableEnded && this.#call === undefined;
  }

  /**
   * Sends a request and gives its answer, whose body is where `receive` says. Rejects with a LostConnection, an S3Failure, what
   * `receive` throws or the signal's reason, and is destroyed then.
   */
  async exchange(request: string, receive: Receive, signal: AbortSignal | undefined): Promise<Answer> {
    signal?.throwIfAborted();
    if (this.#socket.destroyed) throw new LostConnection(this.#error, false);
    const onAbort = (): void => this.#fail(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await new Promise<Answer>((resolve, reject) => {
        this.#call = { answer: new AnswerReader(receive), hadAnswer: false, resolve, reject };
        this.#socket.ref();
        this.#socket.write(request, 'latin1');
      });
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Reads a body straight into its place, all else through a small buffer. */
  #reading(isSecure: boolean): OnReadOpts {
    const small = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);
    const callback = (count: number, memory: Uint8Array): boolean => {
      this.#receive(count < memory.byteLength, (answer) => {
        if (memory === small) return answer.push(small.subarray(0, count)) === count;
        answer.advance(count);
        return true;
      });
      return true;
    };
    const threshold = new ReceiveThreshold();
    const buffer = (): Uint8Array => {
      const room = this.#call?.answer.room;
      const isDirect = room !== undefined && room.byteLength >= DIRECT_BYTES;
      if (!isSecure) threshold.expect(this.#socket, isDirect ? room.byteLength : 1);
      return isDirect ? room : small;
    };
    return { buffer, callback };
  }

  #connected(event: 'connect' | 'secureConnect'): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.once(event, () => resolve());
      this.#socket.once('close', () => reject(new LostConnection(this.#error, false)));
    });
  }

  /** `take` hands over what came, and says whether all of it was of the answer. `isAll`: nothing else had come. */
  #receive(isAll: boolean, take: (answer: AnswerReader) => boolean): void {
    const call = this.#call;
    if (call === undefined) return this.destroy(); // nobody asked for it
    call.hadAnswer = true;
    try {
      const isClean = take(call.answer);
      if (call.answer.isDone) this.#finish(call, isClean && call.answer.keepsAlive, isAll);
    } catch (cause) {
      this.#fail(cause);
    }
  }

  #closed(): void {
    clearInterval(this.#idleTimer);
    const call = this.#call;
    if (call === undefined) return;
    if (!call.answer.isUntilClose || this.#error !== undefined) return this.#fail(new LostConnection(this.#error, call.hadAnswer));
    try {
      this.#finish(call, false, true);
    } catch (cause) {
      this.#fail(cause);
    }
  }

  #finish(call: Call, isKept: boolean, isAll: boolean): void {
    const answer = call.answer.end();
    this.#call = undefined;
    if (isKept) this.#rest();
    else this.destroy();
    // Where a read filled its memory, more may have come than the answer. It is read before the next turn and ends the connection,
    // which the next call must not have begun to use: it would take those bytes for its own answer.
    if (isKept && !isAll) setImmediate(call.resolve, answer);
    else call.resolve(answer);
  }

  /** Unused, it keeps neither itself for long nor the process from its end. */
  #rest(): void {
    this.#restedAt = performance.now();
    this.#socket.unref();
  }

  #endIfIdle(): void {
    if (this.#call === undefined && performance.now() - this.#restedAt >= IDLE_MS) this.destroy();
  }

  #fail(cause: unknown): void {
    const call = this.#call;
    this.#call = undefined;
    this.destroy();
    call?.reject(cause);
  }
}
