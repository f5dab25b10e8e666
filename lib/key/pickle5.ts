// Pickle has many spellings of one value. This one is CPython's C pickler's, whose bytes are what vLLM hashes: it counts
// every str, bytes and non-empty tuple in its memo, and cuts the stream into frames.
import { Buffer } from 'node:buffer';
import { ByteWriter } from './byte-writer.js';
import type { PythonText, PythonValue } from './python-value.js';

// Opcodes of Python's pickletools.
const PROTO = 0x80;
const FRAME = 0x95;
const STOP = 0x2e;
const NONE = 0x4e;
const MARK = 0x28;
const TUPLE = 0x74;
const EMPTY_TUPLE = 0x29;
const TUPLE1 = 0x85;
const BININT1 = 0x4b;
const BININT2 = 0x4d;
const BININT = 0x4a;
const LONG1 = 0x8a;
const SHORT_BINBYTES = 0x43;
const SHORT_BINUNICODE = 0x8c;
const BINUNICODE = 0x58;
const MEMOIZE = 0x94;
const BINGET = 0x68;

/** A frame is closed before the first value that starts at or after this many bytes of it. */
const FRAME_TARGET = 64 * 1024;
const FRAME_HEADER = 9;

/** The bytes of CPython's `pickle.dumps(value, protocol=5)`. Bytes are at most 255 long, texts below 64 KiB. */
export function pickle5(value: PythonValue): Uint8Array {
  const pickler = new Pickler();
  return pickler.dump(value);
}

class Pickler {
  readonly #out = new ByteWriter();
  readonly #texts = new Map<PythonText, number>();
  #memoized = 0;
  #frameStart = 0;

  dump(value: PythonValue): Uint8Array {
    this.#out.u8(PROTO);
    this.#out.u8(5);
    this.#openFrame();
    this.#save(value);
    this.#out.u8(STOP);
    this.#closeFrame();
    return this.#out.written();
  }

  #save(value: PythonValue): void {
    this.#cutFrame();
    if (value === null) return this.#out.u8(NONE);
    if (typeof value === 'number') return this.#saveInt(value);
    if (typeof value === 'bigint') return this.#saveWideInt(value);
    if (value instanceof Uint8Array) return this.#saveBytes(value);
    if (value instanceof Uint32Array) return this.#saveTuple(value);
    if ('text' in value) return this.#saveText(value);
    this.#saveTuple(value);
  }

  #saveInt(value: number): void {
    if (value > 0x7fffffff) return this.#saveLong(BigInt(value));
    if (value < 0 || value > 0xffff) {
      this.#out.u8(BININT);
      return this.#out.u32(value, true);
    }
    if (value > 0xff) {
      this.#out.u8(BININT2);
      return this.#out.u16(value, true);
    }
    this.#out.u8(BININT1);
    this.#out.u8(value);
  }

  #saveWideInt(value: bigint): void {
    if (value <= 0x7fffffffn) this.#saveInt(Number(value));
    else this.#saveLong(value);
  }

  /** Little-endian two's complement, as short as it can be with the sign bit clear. */
  #saveLong(value: bigint): void {
    const bytes: number[] = [];
    for (let rest = value; rest > 0n; rest >>= 8n) bytes.push(Number(rest & 0xffn));
    if (value >> BigInt(8 * bytes.length - 1) === 1n) bytes.push(0);
    this.#out.u8(LONG1);
    this.#out.u8(bytes.length);
    this.#out.bytes(Uint8Array.from(bytes));
  }

  #saveBytes(value: Uint8Array): void {
    this.#out.u8(SHORT_BINBYTES);
    this.#out.u8(value.length);
    this.#out.bytes(value);
    this.#memoize();
  }

  #saveText(value: PythonText): void {
    const known = this.#texts.get(value);
    // Only tags come twice, and early: their index always fits the one byte of BINGET.
    if (known !== undefined) {
      this.#out.u8(BINGET);
      return this.#out.u8(known);
    }
    const text = Buffer.from(value.text);
    if (text.length <= 0xff) {
      this.#out.u8(SHORT_BINUNICODE);
      this.#out.u8(text.length);
    } else {
      this.#out.u8(BINUNICODE);
      this.#out.u32(text.length, true);
    }
    this.#out.bytes(text);
    this.#texts.set(value, this.#memoized);
    this.#memoize();
  }

  #saveTuple(items: Uint32Array | readonly PythonValue[]): void {
    if (items.length === 0) return this.#out.u8(EMPTY_TUPLE);
    const isLong = items.length > 3;
    if (isLong) this.#out.u8(MARK);
    for (const item of items) this.#save(item);
    this.#out.u8(isLong ? TUPLE : TUPLE1 - 1 + items.length);
    this.#memoize();
  }

  #memoize(): void {
    this.#out.u8(MEMOIZE);
    this.#memoized += 1;
  }

  #openFrame(): void {
    this.#frameStart = this.#out.length;
    this.#out.u8(FRAME);
    this.#out.u64(0n, true);
  }

  #closeFrame(): void {
    this.#out.patchU64(this.#frameStart + 1, BigInt(this.#frameLength()), true);
  }

  #cutFrame(): void {
    if (this.#frameLength() < FRAME_TARGET) return;
    this.#closeFrame();
    this.#openFrame();
  }

  #frameLength(): number {
    return this.#out.length - this.#frameStart - FRAME_HEADER;
  }
}
