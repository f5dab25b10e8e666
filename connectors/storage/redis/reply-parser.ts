// Reads what a server answers (RESP2), piece by piece as it comes, straight into the memory where values belong. It meets foreign
// bytes: it asks for no memory before the caller agreed to the length, and refuses what no answer to our commands looks like.

/** A server's refusal: `code` is the first word, as in `WRONGTYPE Operation against ...`. */
export class ReplyError extends Error {
  override readonly name = 'ReplyError';
  readonly code: string;

  constructor(text: string) {
    super(text);
    this.code = /^[A-Z]+(?= |$)/.exec(text)?.[0] ?? 'ERR';
  }
}

/** The server did not keep to the protocol, so nothing more that this connection gives can be told apart. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
}

/** A status is a string, a bulk is its memory, null is a missing value. */
export type SingleReply = string | number | Uint8Array | ReplyError | null;
export type Reply = SingleReply | readonly SingleReply[];

export interface ReplyHandler {
  /** Memory of exactly `length` bytes for a bulk, or a throw to refuse it. `before`: what came before it in its array. */
  place(length: number, before: readonly SingleReply[]): Uint8Array;
  /** One whole reply. */
  receive(reply: Reply): void;
}

/** Longest line: an error text. Redis cuts its own at some hundred bytes. */
const MAX_LINE_BYTES = 4096;
/** Most elements of an array: no command of ours has more replies. */
const MAX_ELEMENTS = 8;

const CR = 0x0d;
const LF = 0x0a;

/** One parser reads one connection from its start to its end; after a throw it must not be used again. */
export class ReplyParser {
  readonly #handler: ReplyHandler;
  /** The start of a line whose end has not come yet. */
  #line = '';
  #bulk: Uint8Array | undefined;
  /** Bytes of the bulk that have come, its line end included. */
  #filled = 0;
  #array: SingleReply[] | undefined;
  #arrayLength = 0;

  constructor(handler: ReplyHandler) {
    this.#handler = handler;
  }

  /** Whether all that came so far were whole replies. */
  get isBetweenReplies(): boolean {
    return this.#line === '' && this.#bulk === undefined && this.#array === undefined;
  }

  /** The memory where the next bytes belong, if it is known; what is written there is told by `advance` instead of `push`. */
  get room(): Uint8Array | undefined {
    return this.#bulk?.subarray(Math.min(this.#filled, this.#bulk.byteLength));
  }

  /** Takes `count` bytes that were written to the start of `room`. */
  advance(count: number): void {
    this.#filled += count;
  }

  /** Takes the next bytes. Throws a ProtocolError on what is no reply, and whatever the handler throws. */
  push(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.byteLength; ) at = this.#bulk === undefined ? this.#readLine(bytes, at) : this.#readBulk(bytes, at, this.#bulk);
  }

  #readLine(bytes: Uint8Array, start: number): number {
    const end = bytes.indexOf(LF, start);
    const stop = end === -1 ? bytes.byteLength : end + 1;
    if (this.#line.length + stop - start > MAX_LINE_BYTES) throw new ProtocolError('a line without an end');
    this.#line += latin1(bytes.subarray(start, stop));
    if (end === -1) return stop;
    const line = this.#line;
    if (!line.endsWith('\r\n')) throw new ProtocolError('a line that does not end in CR LF');
    this.#line = '';
    this.#takeLine(line.slice(0, 1), line.slice(1, -2));
    return stop;
  }

  #takeLine(type: string, text: string): void {
    switch (type) {
      case '+':
        return this.#take(text);
      case '-':
        return this.#take(new ReplyError(text));
      case ':':
        return this.#take(wholeNumber(text));
      case '$':
        return text === '-1' ? this.#take(null) : this.#startBulk(length(text));
      case '*':
        return text === '-1' ? this.#take(null) : this.#startArray(length(text));
      default:
        throw new ProtocolError('a reply of an unknown type');
    }
  }

  #startBulk(length: number): void {
    const memory = this.#handler.place(length, this.#array ?? []);
    if (memory.byteLength !== length) throw new RangeError(`expected memory for ${length} bytes, got ${memory.byteLength}`);
    this.#bulk = memory;
    this.#filled = 0;
  }

  #readBulk(bytes: Uint8Array, start: number, bulk: Uint8Array): number {
    let at = start;
    const missing = bulk.byteLength - this.#filled;
    if (missing > 0) {
      const count = Math.min(missing, bytes.byteLength - at);
      bulk.set(count === bytes.byteLength ? bytes : bytes.subarray(at, at + count), this.#filled);
      this.#filled += count;
      at += count;
    }
    for (; at < bytes.byteLength && this.#filled >= bulk.byteLength; at++, this.#filled++) {
      const isLast = this.#filled > bulk.byteLength;
      if (bytes[at] !== (isLast ? LF : CR)) throw new ProtocolError('a value that is longer than announced');
      if (!isLast) continue;
      this.#bulk = undefined;
      this.#take(bulk);
      return at + 1;
    }
    return at;
  }

  #startArray(length: number): void {
    if (this.#array !== undefined) throw new ProtocolError('an array in an array');
    if (length > MAX_ELEMENTS) throw new ProtocolError('an array that is longer than asked for');
    if (length === 0) return this.#handler.receive([]);
    this.#array = [];
    this.#arrayLength = length;
  }

  #take(reply: SingleReply): void {
    if (this.#array === undefined) return this.#handler.receive(reply);
    this.#array.push(reply);
    if (this.#array.length < this.#arrayLength) return;
    const array = this.#array;
    this.#array = undefined;
    this.#handler.receive(array);
  }
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

function length(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new ProtocolError('a length that is no number');
  return Number(text);
}

function wholeNumber(text: string): number {
  if (!/^-?\d{1,15}$/.test(text)) throw new ProtocolError('a number that is none');
  return Number(text);
}
