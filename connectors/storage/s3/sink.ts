import { S3Failure, notS3 } from './failure.js';

/** Takes the body of one answer. */
export interface Sink {
  /** False: it wants no more. Throws for a byte too many. */
  write(chunk: Uint8Array): boolean;
  /** What was taken. Throws if something is missing. */
  end(): Uint8Array;
}

/** Fills its memory with a body that must have exactly its size. */
export class Fill implements Sink {
  readonly #target: Uint8Array;
  #filled = 0;

  constructor(target: Uint8Array) {
    this.#target = target;
  }

  /** What is not filled yet. What is written there is told by `advance` instead of `write`. */
  get room(): Uint8Array {
    return this.#target.subarray(this.#filled);
  }

  /** Takes `count` bytes that were written to the start of `room`. */
  advance(count: number): void {
    this.#filled += count;
  }

  write(chunk: Uint8Array): boolean {
    if (chunk.byteLength > this.room.byteLength) throw notS3('is longer than it says');
    this.room.set(chunk);
    this.#filled += chunk.byteLength;
    return true;
  }

  end(): Uint8Array {
    if (this.#filled === this.#target.byteLength) return this.#target;
    throw new S3Failure('KV_CONNECTOR_UNAVAILABLE', `the answer ended after ${this.#filled} of ${this.#target.byteLength} bytes; try again`, { isTransient: true });
  }
}

/** Keeps up to `limit` bytes; throws for more. */
export function collect(limit: number): Sink {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  return {
    write(chunk) {
      bytes += chunk.byteLength;
      if (bytes > limit) throw notS3(`has more than ${limit} bytes`);
      chunks.push(Buffer.from(chunk)); // its memory is used again for the next one
      return true;
    },
    end: () => Buffer.concat(chunks),
  };
}

/** Keeps the first `limit` bytes of a text that only explains a failure. */
export function collectStart(limit: number): Sink {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  return {
    write(chunk) {
      chunks.push(Buffer.from(chunk.subarray(0, limit - bytes)));
      bytes = Math.min(limit, bytes + chunk.byteLength);
      return bytes < limit;
    },
    end: () => Buffer.concat(chunks),
  };
}
