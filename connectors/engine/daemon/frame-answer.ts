import { once } from 'node:events';
import type { Exchange } from './exchange.js';
import { CALL_INDEX, FRAME_HEADER_BYTES, FRAME_STATUS, FRAME_TYPE, packFrameHeader } from './frames.js';
import { describeFailure } from './wire-error.js';

const NOTHING = new Uint8Array(0);

/** An answer of frames, one an entry in whatever order they are ready, then the end. */
export interface FrameAnswer {
  /** Resolves when the system has taken the payload, so that its memory may be used again. Rejects with the signal's reason when the client has gone. */
  done(index: number, payload?: Uint8Array): Promise<void>;
  miss(index: number): Promise<void>;
  failed(index: number, error: unknown): Promise<void>;
  /** Ends it. */
  end(summary: object): Promise<void>;
}

/** The least time that a client may take nothing of its answer. */
const MIN_STALL_MS = 5000;

/** Begins an answer. A client that takes nothing of it for `stallMs` (5 s at least) has gone. */
export function frameAnswer({ request, response, signal }: Pick<Exchange, 'request' | 'response' | 'signal'>, stallMs: number): FrameAnswer {
  let pending = 0;

  // A socket that times out is destroyed by Node, which ends the exchange.
  function watch(change: 1 | -1): void {
    pending += change;
    if (pending === 0 || (pending === 1 && change === 1)) request.socket.setTimeout(pending === 0 ? 0 : Math.max(MIN_STALL_MS, stallMs));
  }

  async function write(index: number, status: number, payload: Uint8Array = NOTHING): Promise<void> {
    signal.throwIfAborted();
    if (!response.headersSent) response.writeHead(200, { 'content-type': FRAME_TYPE });
    const header = packFrameHeader({ index, status, bytes: payload.byteLength });
    response.cork();
    const whole = payload.byteLength <= FRAME_HEADER_BYTES * 16 ? Buffer.concat([header, payload]) : undefined;
    if (whole === undefined) response.write(header);
    const written = new Promise<void>((resolve, reject) => {
      const giveUp = (): void => reject(signal.reason);
      signal.addEventListener('abort', giveUp, { once: true });
      // After a failure the signal tells; a socket that was destroyed writes no more of the memory.
      response.write(whole ?? payload, (error) => {
        if (error) return;
        signal.removeEventListener('abort', giveUp);
        resolve();
      });
    });
    response.uncork();
    watch(1);
    try {
      await written;
    } finally {
      watch(-1);
    }
  }

  return {
    done: (index, payload) => write(index, FRAME_STATUS.done, payload),
    miss: (index) => write(index, FRAME_STATUS.miss),
    failed: (index, error) => write(index, FRAME_STATUS.failed, Buffer.from(JSON.stringify(describeFailure(error)))),
    async end(summary) {
      await write(CALL_INDEX, FRAME_STATUS.done, Buffer.from(JSON.stringify(summary)));
      response.end();
      if (!response.writableFinished) await once(response, 'finish', { signal });
    },
  };
}
