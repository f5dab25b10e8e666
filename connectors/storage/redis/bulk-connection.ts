// One connection that moves values. It serves one call at a time and is destroyed when that call is aborted or anything about an
// answer is not as it must be: so nothing writes to a caller's memory late, and no call meets what another one left behind.
// Each call begins with ECHO of a text of its own: whatever mixed up answers on the way, a value that follows it is this call's.
import { randomBytes } from 'node:crypto';
import { connect as connectPlain, type OnReadOpts, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { abortable } from '../abortable.js';
import { LostConnection } from '../lost-connection.js';
import { ReceiveThreshold } from '../receive-threshold.js';
import { command, joined, type Command } from './command.js';
import { ProtocolError, ReplyError, ReplyParser, type Reply, type ReplyHandler, type SingleReply } from './reply-parser.js';
import type { Access, Address } from './settings.js';

/** Commands that are sent together, and what is expected to come back. */
export interface Exchange {
  readonly commands: readonly Command[];
  /** How many replies; each command gets one. */
  readonly replies: number;
  /** See `ReplyHandler`. Left out where no reply is a bulk. */
  readonly place?: ReplyHandler['place'];
}

/** For what comes before the place of a value is known, and for small values. */
const READ_BUFFER_BYTES = 64 * 1024;
/** So much of a value is worth a read of its own, straight into its place: test/bench/redis.bench.ts. */
const DIRECT_BYTES = 16 * 1024;
const KEEP_ALIVE_MS = 30_000;

interface Call {
  readonly exchange: Exchange;
  /** What ECHO must give back before anything else. Undefined before the connection has signed in. */
  readonly echo: string | undefined;
  readonly replies: Reply[];
  isSent: boolean;
  hadAnswer: boolean;
  resolve(replies: readonly Reply[]): void;
  reject(cause: unknown): void;
}

export class BulkConnection {
  readonly #socket: Socket;
  readonly #parser = new ReplyParser({
    place: (length, before) => this.#place(length, before),
    receive: (reply) => this.#take(reply),
  });
  readonly #name = randomBytes(9).toString('base64url');
  #calls = 0;
  #call: Call | undefined;
  #error: unknown;

  private constructor(address: Address, { tls }: Access) {
    const where = 'socketPath' in address ? { path: address.socketPath } : address;
    const how = { ...where, ...tls, onread: this.#reading(!('socketPath' in address) && tls === undefined) }; // tls.connect knows `onread` too, though its types do not
    this.#socket = tls === undefined ? connectPlain(how) : connectTls(how);
    this.#socket.setNoDelay(true);
    this.#socket.setKeepAlive(true, KEEP_ALIVE_MS);
    this.#socket.once('error', (cause) => (this.#error = cause));
    this.#socket.once('close', () => this.#fail(new LostConnection(this.#error, this.#call?.hadAnswer ?? false)));
  }

  /** Connects and signs in. Rejects with a LostConnection, a ReplyError or the signal's reason. */
  static async open(address: Address, access: Access, signal: AbortSignal | undefined): Promise<BulkConnection> {
    const credentials = await abortable(access.credentials(), signal);
    const connection = new BulkConnection(address, access);
    try {
      // Nothing is sent before: over TLS, the certificate has been verified by then.
      await abortable(connection.#connected(access.tls === undefined ? 'connect' : 'secureConnect'), signal);
      const commands: Command[] = [];
      if (credentials !== undefined) commands.push(command('AUTH', credentials.username, credentials.password));
      if (access.database !== 0) commands.push(command('SELECT', access.database));
      if (commands.length === 0) return connection;
      for (const reply of await connection.#send({ commands, replies: commands.length }, undefined, signal)) {
        if (reply instanceof ReplyError) throw reply;
      }
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
   * Sends the commands and gives their replies, errors among them. Rejects with a ReplyError if the server takes none; on everything
   * else it destroys itself too.
   */
  async exchange({ commands, replies, ...rest }: Exchange, signal: AbortSignal | undefined): Promise<readonly Reply[]> {
    const echo = `${this.#name}${this.#calls++}`;
    const [first, ...others] = await this.#send({ ...rest, commands: [command('ECHO', echo), ...commands], replies: replies + 1 }, echo, signal);
    if (first instanceof ReplyError) throw first;
    return others;
  }

  async #send(exchange: Exchange, echo: string | undefined, signal: AbortSignal | undefined): Promise<readonly Reply[]> {
    signal?.throwIfAborted();
    if (this.#socket.destroyed) throw new LostConnection(this.#error, false);
    const onAbort = (): void => this.#fail(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await new Promise<readonly Reply[]>((resolve, reject) => {
        const call: Call = { exchange, echo, replies: [], isSent: false, hadAnswer: false, resolve, reject };
        this.#call = call;
        this.#write(joined(exchange.commands), (error) => {
          if (error) return; // the socket closes now, and tells
          call.isSent = true;
          this.#settleIfComplete();
        });
      });
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Reads a value straight into its place, all else through a small buffer. */
  #reading(isOverTcp: boolean): OnReadOpts {
    const small = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);
    const callback = (count: number, memory: Uint8Array): boolean => {
      if (memory === small) this.#receive(small.subarray(0, count));
      else this.#parser.advance(count);
      return true;
    };
    const threshold = new ReceiveThreshold();
    const buffer = (): Uint8Array => {
      const room = this.#parser.room;
      const isDirect = room !== undefined && room.byteLength >= DIRECT_BYTES;
      if (isOverTcp) threshold.expect(this.#socket, isDirect ? room.byteLength : 1);
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

  #write(pieces: Command, onSent: (error?: Error | null) => void): void {
    if (pieces.length > 1) this.#socket.cork();
    pieces.forEach((piece, i) => (i === pieces.length - 1 ? this.#socket.write(piece, onSent) : this.#socket.write(piece)));
    if (pieces.length > 1) this.#socket.uncork();
  }

  #place(length: number, before: readonly SingleReply[]): Uint8Array {
    const call = this.#call;
    if (call?.echo !== undefined && call.replies.length === 0) return Buffer.alloc(length === call.echo.length ? length : wrongOrder());
    return (call?.exchange.place ?? wrongOrder)(length, before);
  }

  #take(reply: Reply): void {
    const call = this.#call;
    if (call === undefined && reply instanceof ReplyError) throw reply; // such as that it has too many clients
    if (call === undefined || call.replies.length === call.exchange.replies) return wrongOrder();
    const isEcho = call.echo !== undefined && call.replies.length === 0;
    if (isEcho && !(reply instanceof ReplyError) && !(reply instanceof Uint8Array && Buffer.from(reply).toString('latin1') === call.echo)) wrongOrder();
    call.replies.push(reply);
  }

  #receive(bytes: Uint8Array): void {
    if (this.#socket.destroyed) return;
    if (this.#call !== undefined) this.#call.hadAnswer = true;
    try {
      this.#parser.push(bytes);
      const isComplete = this.#call === undefined || this.#call.replies.length === this.#call.exchange.replies;
      if (isComplete && !this.#parser.isBetweenReplies) throw new ProtocolError('more than was asked for');
      this.#settleIfComplete();
    } catch (cause) {
      this.#fail(cause);
    }
  }

  /** Waits for the end of the sending too: the caller may change the value after the call. */
  #settleIfComplete(): void {
    const call = this.#call;
    if (call === undefined || !call.isSent || call.replies.length < call.exchange.replies) return;
    this.#call = undefined;
    call.resolve(call.replies);
  }

  #fail(cause: unknown): void {
    const call = this.#call;
    this.#call = undefined;
    this.#error ??= cause;
    this.#socket.destroy();
    // A server may refuse and hang up, over too large a value while that is on its way: its refusal says more than the lost connection.
    const refusal = cause instanceof LostConnection ? call?.replies.find((reply) => reply instanceof ReplyError) : undefined;
    call?.reject(refusal ?? cause);
  }
}

function wrongOrder(): never {
  throw new ProtocolError('a reply that was not asked for');
}
