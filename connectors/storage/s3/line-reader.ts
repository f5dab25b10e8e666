import { notHttp } from './failure.js';

const LF = 0x0a;

/** Reads the lines of HTTP/1.1, which end in CR LF, from bytes that come in pieces. */
export class LineReader {
  /** Bytes that may still come, over all lines. */
  #left: number;
  #text = '';

  constructor(maxBytes: number) {
    this.#left = maxBytes;
  }

  /** Takes bytes from `start` on, up to the end of a line: gives that without its CR LF, if it has come, and where the next one starts. */
  read(bytes: Uint8Array, start: number): { readonly line: string | undefined; readonly next: number } {
    const end = bytes.indexOf(LF, start);
    const next = end === -1 ? bytes.byteLength : end + 1;
    this.#left -= next - start;
    if (this.#left < 0) throw notHttp('has too long a head');
    const piece = Buffer.from(bytes.buffer, bytes.byteOffset + start, next - start).toString('latin1');
    // Now, not at the end of the line: that of what is no HTTP may never come.
    if (/[\0-\x08\x0b\x0c\x0e-\x1f\x7f]/.test(piece)) throw notHttp('has a line that is no text');
    this.#text += piece;
    if (end === -1) return { line: undefined, next };
    const line = this.#text;
    this.#text = '';
    if (!line.endsWith('\r\n')) throw notHttp('has a line that does not end in CR LF');
    return { line: line.slice(0, -2), next };
  }
}
