import { notHttp } from './failure.js';
import { LineReader } from './line-reader.js';
import type { ResponseHead } from './response-head.js';
import { Fill, type Sink } from './sink.js';

/** For the lines between chunks, together: a text that explains a failure comes in few. */
const MAX_CHUNK_LINES_BYTES = 64 << 10;

/** Hands the bytes of one body to its sink, piece by piece as they come, and knows where it ends. */
export class BodyReader {
  readonly #sink: Sink;
  readonly #length: ResponseHead['length'];
  readonly #lines = new LineReader(MAX_CHUNK_LINES_BYTES);
  /** Bytes of the body, or of its chunk, that are still to come. */
  #left: number;
  #nextLine: 'size' | 'end of chunk' | 'trailer' = 'size';
  #isWhole: boolean;
  #isEnough = false;

  constructor(length: ResponseHead['length'], sink: Sink) {
    this.#sink = sink;
    this.#length = length;
    this.#left = length === 'chunked' ? 0 : length === 'until close' ? Infinity : length;
    this.#isWhole = length === 0;
  }

  /** Whether all of it has come. */
  get isWhole(): boolean {
    return this.#isWhole;
  }

  /** Whether the sink wants no more, though there may be more. */
  get isEnough(): boolean {
    return this.#isEnough;
  }

  /** Whether it ends where the connection does. */
  get isUntilClose(): boolean {
    return this.#length === 'until close';
  }

  /** The memory where the next bytes belong, if they are of the body for certain. What is written there is told by `advance` instead of `push`. */
  get room(): Uint8Array | undefined {
    return typeof this.#length === 'number' && this.#sink instanceof Fill ? this.#sink.room.subarray(0, this.#left) : undefined;
  }

  /** Takes `count` bytes that were written to the start of `room`. */
  advance(count: number): void {
    if (this.#sink instanceof Fill) this.#sink.advance(count);
    this.#take(count);
  }

  /** Takes bytes from `start` on, up to the body's end, and gives where that is. Throws an S3Failure for what is no body, or what the sink throws. */
  push(bytes: Uint8Array, start: number): number {
    let at = start;
    while (at < bytes.byteLength && !this.#isWhole && !this.#isEnough) at = this.#left > 0 ? this.#readData(bytes, at) : this.#readLine(bytes, at);
    return at;
  }

  #readData(bytes: Uint8Array, start: number): number {
    const end = Math.min(bytes.byteLength, start + this.#left);
    this.#isEnough = !this.#sink.write(bytes.subarray(start, end));
    this.#take(end - start);
    return end;
  }

  #take(count: number): void {
    this.#left -= count;
    if (this.#left === 0 && this.#length !== 'chunked') this.#isWhole = true;
  }

  #readLine(bytes: Uint8Array, start: number): number {
    const { line, next } = this.#lines.read(bytes, start);
    if (line !== undefined) this.#takeLine(line);
    return next;
  }

  #takeLine(line: string): void {
    if (this.#nextLine === 'size') {
      const [, size] = /^([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r]*)?$/.exec(line) ?? [];
      if (size === undefined) throw notHttp('has a chunk without a size');
      this.#left = Number.parseInt(size, 16);
      this.#nextLine = this.#left === 0 ? 'trailer' : 'end of chunk';
    } else if (this.#nextLine === 'end of chunk') {
      if (line !== '') throw notHttp('has a chunk that is longer than it says');
      this.#nextLine = 'size';
    } else if (line === '') this.#isWhole = true;
  }
}
