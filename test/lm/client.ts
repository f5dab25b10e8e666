// A client of lm:// that says what it is told, right or wrong, and reads answers.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { socketReader, type SocketReader } from '../../connectors/engine/lm/socket-reader.js';
import { randomSource } from '../lib/tensors.js';

/** The numbers of a request in the order of the wire, and its key. */
export interface RawRequest {
  readonly command: number;
  readonly length?: number;
  readonly format?: number;
  readonly dtype?: number;
  readonly shape?: readonly number[];
  readonly key?: string;
}

/** An answer, with its data. */
export interface RawAnswer {
  readonly code: number;
  readonly length: number;
  readonly format: number;
  readonly dtype: number;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

export const COMMAND = { put: 1, get: 2, exist: 3, list: 4, health: 5 } as const;

export function packRequest({ command, length = 0, format = 1, dtype = 2, shape = [], key = '' }: RawRequest): Uint8Array {
  const bytes = Buffer.alloc(186, ' ');
  const [a = 0, b = 0, c = 0, d = 0] = shape;
  [command, length, format, dtype, 0, a, b, c, d].forEach((value, i) => bytes.writeInt32LE(value, 4 * i));
  bytes.write(key, 36);
  return bytes;
}

/** A connection to a server on this machine. */
export class LmClient {
  readonly socket: Socket;
  readonly #reader: SocketReader;

  private constructor(socket: Socket) {
    this.socket = socket;
    this.#reader = socketReader(socket);
  }

  static async to(port: number): Promise<LmClient> {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    socket.on('error', () => undefined);
    return new LmClient(socket);
  }

  send(request: RawRequest, data?: Uint8Array): void {
    this.socket.write(packRequest(request));
    if (data !== undefined) this.socket.write(data);
  }

  /** The next answer; undefined if the connection ends before. */
  async answer(): Promise<RawAnswer | undefined> {
    const head = Buffer.alloc(36);
    if (!(await this.#reader.fill(head))) return undefined;
    const [code = 0, length = 0, format = 0, dtype = 0, ...rest] = Array.from({ length: 9 }, (_, i) => head.readInt32LE(4 * i));
    const data = new Uint8Array(length);
    if (!(await this.#reader.fill(data))) return undefined;
    return { code, length, format, dtype, shape: rest.slice(0, 4), data };
  }

  async ask(request: RawRequest): Promise<RawAnswer | undefined> {
    this.send(request);
    return this.answer();
  }

  /** Resolves when the other side has closed the connection. */
  async closed(): Promise<void> {
    if (!this.socket.destroyed) {
      this.socket.resume();
      await once(this.socket, 'close');
    }
  }

  close(): void {
    this.socket.destroy();
  }
}

/** Bits of a tensor, NaN and all. */
export function randomBytes(length: number, seed: number): Uint8Array {
  const random = randomSource(seed);
  return Uint8Array.from({ length }, () => random() * 256);
}
