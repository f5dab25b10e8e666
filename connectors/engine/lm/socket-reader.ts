import type { Readable } from 'node:stream';

/** Reads whole messages from a socket, whose bytes come as they like. Nothing else may read from it. */
export interface SocketReader {
  /** Waits until there is a byte to read. False once the other side has ended, or the connection is gone. */
  hasMore(): Promise<boolean>;
  /** Fills `target`. False if the stream ends before. */
  fill(target: Uint8Array): Promise<boolean>;
  /** Throws `count` bytes away. False if the stream ends before. */
  skip(count: number): Promise<boolean>;
}

/** Makes the reader of a socket. Reads no further ahead than the socket's own buffer. */
export function socketReader(socket: Readable): SocketReader {
  const pieces = socket.iterator({ destroyOnReturn: false });
  let left: Uint8Array = new Uint8Array(0);

  const hasMore = async (): Promise<boolean> => {
    while (left.length === 0) {
      // A connection that breaks has ended for who reads from it.
      const next = await pieces.next().catch(() => ({ done: true, value: undefined }));
      if (next.done === true) return false;
      left = next.value as Uint8Array;
    }
    return true;
  };

  const take = async (count: number, use: (bytes: Uint8Array, at: number) => void): Promise<boolean> => {
    for (let at = 0; at < count; ) {
      if (!(await hasMore())) return false;
      const bytes = left.subarray(0, count - at);
      use(bytes, at);
      left = left.subarray(bytes.length);
      at += bytes.length;
    }
    return true;
  };

  return {
    hasMore,
    fill: (target) => take(target.length, (bytes, at) => target.set(bytes, at)),
    skip: (count) => take(count, () => undefined),
  };
}
