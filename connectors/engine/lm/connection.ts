// One client of the lm:// server: reads its requests one after the other, as LMCache sends them.
import type { Socket } from 'node:net';
import { KvError } from '../../../lib/errors.js';
import { wireFailure } from '../daemon/wire-error.js';
import { textOf } from '../lmcache/key-text.js';
import type { LmChunks } from './chunks.js';
import type { LmEvent, LmEvents } from './events.js';
import type { LmLimits } from './limits.js';
import type { PendingPuts } from './pending-puts.js';
import { LmProtocolError, packAnswer, packTensorAnswer, parseRequest, REQUEST_BYTES, type EngineName, type LmRequest } from './protocol.js';
import { socketReader, type SocketReader } from './socket-reader.js';

/** What the clients of a server share. */
export interface LmService {
  readonly chunks: LmChunks;
  readonly puts: PendingPuts;
  readonly events: LmEvents;
  readonly limits: LmLimits;
}

type Asked = Extract<LmRequest, { command: 'get' | 'exist' }>;
type Put = Extract<LmRequest, { command: 'put' }>;

const SLOWEST_BYTES_PER_MS = 1_000;

/** Serves a client until it goes, or `stop` is aborted: then after the request that is being answered. Never rejects. */
export async function serveClient(socket: Socket, service: LmService, stop: AbortSignal): Promise<void> {
  const client = new Client(socket, service);
  const onStop = (): void => client.stop();
  stop.addEventListener('abort', onStop, { once: true });
  socket.on('error', () => undefined); // reads and writes tell of it
  try {
    await client.run();
  } catch (error) {
    service.events.onClientLost(messageOf(error));
  } finally {
    stop.removeEventListener('abort', onStop);
    socket.destroy();
  }
}

class Client {
  readonly #socket: Socket;
  readonly #service: LmService;
  readonly #reader: SocketReader;
  #pendingBytes = 0;
  #onRoom: (() => void) | undefined;
  #isBusy = false;
  #isStopping = false;

  constructor(socket: Socket, service: LmService) {
    this.#socket = socket;
    this.#service = service;
    this.#reader = socketReader(socket);
  }

  /** Ends after the request that is being answered, or that is still on its way here, if this is over soon. */
  stop(): void {
    this.#isStopping = true;
    if (!this.#isBusy) this.#socket.destroy();
    else setTimeout(() => this.#socket.destroy(), this.#service.limits.stopMs).unref();
  }

  async run(): Promise<void> {
    const header = new Uint8Array(REQUEST_BYTES);
    // Between requests a client may be silent for as long as it likes.
    while (!this.#isStopping && (await this.#reader.hasMore())) {
      this.#isBusy = true;
      await this.#inTime(REQUEST_BYTES, 'a request', () => this.#reader.fill(header));
      await this.#serve(parseRequest(header));
      this.#isBusy = false;
    }
  }

  async #serve(request: LmRequest): Promise<void> {
    switch (request.command) {
      case 'put':
        return this.#put(request);
      case 'get':
        return this.#get(request);
      case 'exist':
        return this.#exist(request);
      case 'health':
        return this.#send(packAnswer(true));
      case 'list':
        // LMCache 0.5.6 has the number, sends it never, and its own server does not answer it.
        return this.#send(packAnswer(false));
    }
  }

  async #put(put: Put): Promise<void> {
    const { maxBytes, putDeadlineMs } = this.#service.limits;
    const ended = this.#clock({ command: 'put', rawBytes: put.length, ...('name' in put && { model: put.name.parts.model }) });
    const refusal = 'refusal' in put ? put.refusal : put.length > maxBytes ? `it has ${put.length} bytes, more than the ${maxBytes} that are allowed` : undefined;
    if ('refusal' in put || refusal !== undefined || !(await this.#room(put.length))) {
      await this.#inTime(put.length, 'a tensor', () => this.#reader.skip(put.length));
      return ended(refusal === undefined ? { outcome: 'dropped', code: 'KV_OVERLOADED', reason: 'the store is slower than puts come' } : { outcome: 'refused', reason: refusal });
    }
    const { name, metadata } = put;
    // Not touched before it is filled: a client that promises much and sends little costs no memory.
    const data = new Uint8Array(put.length);
    await this.#inTime(put.length, 'a tensor', () => this.#reader.fill(data));
    this.#pendingBytes += put.length;
    const stored = this.#service.puts.run(textOf(name), putDeadlineMs, (signal) => this.#service.chunks.put(name, { metadata, data }, signal));
    void stored
      .then(
        (storedAs) => ended({ outcome: 'stored', ...storedAs }),
        (error: unknown) => ended(failure(error)),
      )
      .finally(() => {
        this.#pendingBytes -= put.length;
        this.#onRoom?.();
      });
  }

  async #get(request: Asked): Promise<void> {
    const found = await this.#answer(request, async (name, signal) => {
      const chunk = await this.#service.chunks.get(name, signal);
      return chunk && { chunk, told: { rawBytes: chunk.data.length, storedBytes: chunk.storedBytes, rung: chunk.rung } };
    });
    await (found === undefined ? this.#send(packAnswer(false)) : this.#send(packTensorAnswer(found.chunk.metadata), found.chunk.data));
  }

  async #exist(request: Asked): Promise<void> {
    const found = await this.#answer(request, async (name, signal) => ((await this.#service.chunks.has(name, signal)) ? { told: {} } : undefined));
    await this.#send(packAnswer(found !== undefined));
  }

  /** What `find` finds in time; undefined for a miss, and for whatever fails. */
  async #answer<T extends { readonly told: Partial<LmEvent> }>(request: Asked, find: (name: EngineName, signal: AbortSignal) => Promise<T | undefined>): Promise<T | undefined> {
    const ended = this.#clock({ command: request.command, ...('name' in request && { model: request.name.parts.model }) });
    if ('refusal' in request) {
      ended({ outcome: 'refused', reason: request.refusal });
      return undefined;
    }
    const controller = new AbortController();
    const { deadlineMs } = this.#service.limits;
    const timer = setTimeout(() => controller.abort(new KvError('KV_CONNECTOR_TIMEOUT', `the store did not answer within ${deadlineMs} ms`)), deadlineMs);
    const { signal } = controller;
    try {
      await orAborted(this.#service.puts.settled(textOf(request.name)), signal);
      const found = await find(request.name, signal);
      ended(found === undefined ? { outcome: 'miss' } : { outcome: 'hit', ...found.told });
      return found;
    } catch (error) {
      // The engine's edge: whatever it is, LMCache has to go on.
      ended(failure(error));
      return undefined;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits until a put of so many bytes may wait for the store, but not for long. */
  async #room(bytes: number): Promise<boolean> {
    const { pendingBytes, roomWaitMs } = this.#service.limits;
    const hasRoom = (): boolean => this.#pendingBytes === 0 || this.#pendingBytes + bytes <= pendingBytes;
    const deadline = performance.now() + roomWaitMs;
    for (let leftMs = roomWaitMs; !hasRoom() && leftMs > 0; leftMs = deadline - performance.now()) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs);
        this.#onRoom = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#onRoom = undefined;
    return hasRoom();
  }

  async #send(...pieces: readonly Uint8Array[]): Promise<void> {
    const bytes = pieces.reduce((sum, { length }) => sum + length, 0);
    await this.#inTime(bytes, 'an answer', async () => {
      // In one packet if it fits: LMCache takes what its first read gives for the whole answer.
      this.#socket.cork();
      const written = pieces.map((piece) => new Promise<boolean>((resolve) => this.#socket.write(piece, (error) => resolve(error === undefined || error === null))));
      this.#socket.uncork();
      // A write that `destroy` cuts off reports no error.
      return (await Promise.all(written)).every((isWritten) => isWritten) && !this.#socket.destroyed;
    });
  }

  /** Does the transfer of a message, in its time. Throws where it is not done whole. */
  async #inTime(bytes: number, what: string, transfer: () => Promise<boolean>): Promise<void> {
    const limitMs = this.#service.limits.transferMs + bytes / SLOWEST_BYTES_PER_MS;
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.#socket.destroy();
    }, limitMs);
    try {
      if (await transfer()) return;
    } finally {
      clearTimeout(timer);
    }
    throw new LmProtocolError(isLate ? `${what} of ${bytes} bytes took more than ${Math.round(limitMs)} ms` : `the connection ended inside ${what}`);
  }

  /** Starts the clock for a request; what this gives tells that it is over. */
  #clock(begun: Pick<LmEvent, 'command'> & Partial<LmEvent>): (end: Pick<LmEvent, 'outcome'> & Partial<LmEvent>) => void {
    const begin = performance.now();
    return (end) => this.#service.events.onRequest({ rawBytes: 0, storedBytes: 0, ...begun, ...end, ms: performance.now() - begin });
  }
}

/** Resolves when `promise` has settled; rejects with the signal's reason if that is aborted before. */
function orAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    void promise.finally(() => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    });
  });
}

function failure(error: unknown): Pick<LmEvent, 'outcome' | 'reason' | 'code'> {
  return { outcome: 'failed', reason: messageOf(error), code: wireFailure(error).code };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
