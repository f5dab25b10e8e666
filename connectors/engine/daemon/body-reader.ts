import { isAscii } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import { KvError } from '../../../lib/errors.js';
import { invalid } from './wire-error.js';

/** Takes a request's body, copying its bytes once, and no faster than it is asked for. */
export interface BodyReader {
  /** Fills `target`. Rejects with KV_INVALID_INPUT if the body ends before, or with the signal's reason. */
  read(target: Uint8Array): Promise<void>;
  /** Waits for more, and tells whether there is none. */
  isAtEnd(): Promise<boolean>;
  /** All of the body, or undefined if that is more than `most` bytes. Rejects with KV_INVALID_INPUT if it is not UTF-8, or comes in shreds. */
  text(most: number): Promise<string | undefined>;
}

/** Pieces of a text: each takes some hundred bytes, however small it is. */
const MAX_PIECES = 65_536;

/** What becomes of the pieces of a body. */
interface Taker {
  /** Gives back what it does not want of a piece. */
  take(piece: Buffer): Buffer | undefined;
  hasEnough(): boolean;
}

/** Reads the body of `request` until `signal` aborts. */
export function bodyReader(request: IncomingMessage, signal: AbortSignal): BodyReader {
  let leftover: Buffer | undefined; // came with what was wanted before
  let waiting: { readonly taker: Taker; resolve(): void; reject(reason: unknown): void } | undefined;
  let isEnded = false;

  function settle(): void {
    waiting?.resolve();
    waiting = undefined;
  }

  request.on('data', (piece: Buffer) => {
    leftover = piece;
    if (waiting !== undefined && isServed(waiting.taker)) settle();
    if (waiting === undefined) request.pause();
  });
  request.pause();
  request.once('end', () => {
    isEnded = true;
    settle();
  });
  const giveUp = (): void => {
    waiting?.reject(signal.reason);
    waiting = undefined;
  };
  signal.addEventListener('abort', giveUp, { once: true });

  /** Gives what has come to `taker`, and tells whether it has enough. */
  function isServed(taker: Taker): boolean {
    leftover = leftover && taker.take(leftover);
    return taker.hasEnough();
  }

  /** Resolves when `taker` has enough, or the body has ended. */
  async function serve(taker: Taker): Promise<void> {
    signal.throwIfAborted();
    if (isServed(taker) || isEnded) return;
    await new Promise<void>((resolve, reject) => {
      waiting = { taker, resolve, reject };
      request.resume();
    });
  }

  /** Resolves with how much of `target` was filled. */
  async function fill(target: Uint8Array): Promise<number> {
    let filled = 0;
    await serve({
      take(piece) {
        const taken = piece.subarray(0, target.byteLength - filled);
        target.set(taken, filled);
        filled += taken.byteLength;
        return taken.byteLength < piece.byteLength ? piece.subarray(taken.byteLength) : undefined;
      },
      hasEnough: () => filled === target.byteLength,
    });
    return filled;
  }

  return {
    async read(target) {
      if ((await fill(target)) < target.byteLength) throw new KvError('KV_INVALID_INPUT', 'the body ends inside what was announced');
    },
    isAtEnd: async () => (await fill(new Uint8Array(1))) === 0,
    async text(most) {
      if (Number(request.headers['content-length'] ?? 0) > most) return undefined;
      const pieces: Buffer[] = [];
      let bytes = 0;
      await serve({
        take(piece) {
          pieces.push(piece);
          bytes += piece.byteLength;
          return undefined;
        },
        hasEnough: () => bytes > most || pieces.length > MAX_PIECES,
      });
      if (pieces.length > MAX_PIECES) throw invalid(`expected a body in at most ${MAX_PIECES} pieces`);
      return bytes > most ? undefined : textOf(pieces);
    },
  };
}

const UTF8 = new TextDecoder('utf-8', { fatal: true });

/** Text in UTF-8 that came in pieces. Throws KV_INVALID_INPUT for other bytes. */
export function textOf(pieces: readonly Buffer[]): string {
  // Lookups are 66 KB of ASCII each. To put the pieces together first takes memory beside the heap, and V8 collects garbage far more often for it.
  if (pieces.every((piece) => isAscii(piece))) return pieces.map((piece) => piece.toString('latin1')).join('');
  try {
    return UTF8.decode(Buffer.concat(pieces));
  } catch {
    throw invalid('expected the body to be text in UTF-8');
  }
}
