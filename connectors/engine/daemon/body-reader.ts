import type { IncomingMessage } from 'node:http';
import { KvError } from '../../../lib/errors.js';

/** Takes a request's body in pieces of known size, copying it once, and no faster than it is asked for. */
export interface BodyReader {
  /** Fills `target`. Rejects with KV_INVALID_INPUT if the body ends before, or with the signal's reason. */
  read(target: Uint8Array): Promise<void>;
  /** Waits for more, and tells whether there is none. */
  isAtEnd(): Promise<boolean>;
  /** The whole body, or undefined if that is more than `most` bytes. */
  whole(most: number): Promise<Uint8Array | undefined>;
}

const ENDED = 'the body ends inside what was announced';

interface Want {
  readonly target: Uint8Array;
  filled: number;
  resolve(isFull: boolean): void;
  reject(reason: unknown): void;
}

/** Reads the body of `request` until `signal` aborts. */
export function bodyReader(request: IncomingMessage, signal: AbortSignal): BodyReader {
  let leftover: Uint8Array | undefined; // came with what was wanted before
  let want: Want | undefined;
  let isEnded = false;

  function feed(piece: Uint8Array): Uint8Array | undefined {
    if (want === undefined) return piece;
    const taken = piece.subarray(0, want.target.byteLength - want.filled);
    want.target.set(taken, want.filled);
    want.filled += taken.byteLength;
    if (want.filled === want.target.byteLength) settle(true);
    return taken.byteLength < piece.byteLength ? piece.subarray(taken.byteLength) : undefined;
  }

  function settle(isFull: boolean): void {
    const settled = want;
    want = undefined;
    settled?.resolve(isFull);
  }

  request.on('data', (piece: Uint8Array) => {
    leftover = feed(piece);
    if (want === undefined) request.pause();
  });
  request.pause();
  request.once('end', () => {
    isEnded = true;
    settle(false);
  });
  const giveUp = (): void => {
    want?.reject(signal.reason);
    want = undefined;
  };
  signal.addEventListener('abort', giveUp, { once: true });

  /** Resolves with whether all of `target` was filled, and how much. */
  async function fill(target: Uint8Array): Promise<number> {
    signal.throwIfAborted();
    if (target.byteLength === 0) return 0;
    const mine: Want = { target, filled: 0, resolve: () => undefined, reject: () => undefined };
    const done = new Promise<boolean>((resolve, reject) => Object.assign(mine, { resolve, reject }));
    want = mine;
    const piece = leftover;
    leftover = undefined;
    if (piece !== undefined) leftover = feed(piece);
    if (want !== undefined) {
      if (isEnded) settle(false);
      else request.resume();
    }
    await done;
    return mine.filled;
  }

  return {
    async read(target) {
      if ((await fill(target)) < target.byteLength) throw new KvError('KV_INVALID_INPUT', ENDED);
    },
    isAtEnd: async () => (await fill(new Uint8Array(1))) === 0,
    async whole(most) {
      const announced = Number(request.headers['content-length'] ?? NaN);
      if (announced > most) return undefined;
      // One byte more than may be: it tells a body that is too long.
      let room = new Uint8Array(Number.isNaN(announced) ? Math.min(most + 1, 1 << 16) : announced + 1);
      let bytes = 0;
      for (;;) {
        const filled = await fill(room.subarray(bytes));
        bytes += filled;
        if (bytes < room.byteLength) return room.subarray(0, bytes);
        if (bytes > most) return undefined;
        const larger = new Uint8Array(Math.min(most + 1, 2 * room.byteLength));
        larger.set(room);
        room = larger;
      }
    },
  };
}
