import { Buffer } from 'node:buffer';
import { ByteWriter } from './byte-writer.js';
import type { PythonValue } from './python-value.js';

// RFC 8949, section 3.1: the major type stands in the top three bits.
const UNSIGNED = 0x00;
const NEGATIVE = 0x20;
const BYTES = 0x40;
const TEXT = 0x60;
const ARRAY = 0x80;
const NULL = 0xf6;

/** Canonical CBOR of a Python value: the bytes of `cbor2.dumps(value, canonical=True)`. */
export function cbor(value: PythonValue): Uint8Array {
  const out = new ByteWriter();
  write(out, value);
  return out.written();
}

function write(out: ByteWriter, value: PythonValue): void {
  if (value === null) return out.u8(NULL);
  if (typeof value === 'number') return writeInt(out, value);
  if (typeof value === 'bigint') return writeWideInt(out, value);
  if (value instanceof Uint8Array) {
    writeHead(out, BYTES, value.length);
    return out.bytes(value);
  }
  if (value instanceof Uint32Array) {
    writeHead(out, ARRAY, value.length);
    for (const token of value) writeHead(out, UNSIGNED, token);
    return;
  }
  if ('text' in value) {
    const text = Buffer.from(value.text);
    writeHead(out, TEXT, text.length);
    return out.bytes(text);
  }
  writeHead(out, ARRAY, value.length);
  for (const item of value) write(out, item);
}

function writeInt(out: ByteWriter, value: number): void {
  if (value < 0) writeHead(out, NEGATIVE, -1 - value);
  else writeHead(out, UNSIGNED, value);
}

function writeWideInt(out: ByteWriter, value: bigint): void {
  if (value <= 0xffffffffn) return writeHead(out, UNSIGNED, Number(value));
  out.u8(UNSIGNED | 27);
  out.u64(value, false);
}

/** The shortest head that holds `argument`, below 2^32. */
function writeHead(out: ByteWriter, major: number, argument: number): void {
  if (argument < 24) return out.u8(major | argument);
  if (argument <= 0xff) {
    out.u8(major | 24);
    return out.u8(argument);
  }
  if (argument <= 0xffff) {
    out.u8(major | 25);
    return out.u16(argument, false);
  }
  out.u8(major | 26);
  out.u32(argument, false);
}
