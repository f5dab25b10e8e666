// Reads the head of an answer (HTTP/1.1, RFC 9112), piece by piece as it comes. What could be read in two ways is refused: two lengths,
// a length beside chunks, folded lines.
import type { IncomingHttpHeaders } from 'node:http';
import { notHttp } from './failure.js';
import { LineReader } from './line-reader.js';
import type { AnswerHead } from './transport.js';

/** A head, and what it says about the bytes after it. */
export interface ResponseHead extends AnswerHead {
  /** Bytes of the body where the head says them; otherwise it comes in chunks, or ends with the connection. */
  readonly length: number | 'chunked' | 'until close';
  /** Whether the server takes another request on the connection. */
  readonly keepsAlive: boolean;
}

/** For all lines together, those of interim answers among them. */
const MAX_HEAD_BYTES = 64 << 10;

/** Reads one head. */
export class HeadReader {
  readonly #lines = new LineReader(MAX_HEAD_BYTES);
  #status: StatusLine | undefined;
  #headers = new Map<string, string[]>();

  /** Takes bytes from `start` on, up to the head's end: gives that, if it has come, and where the body starts. Throws an S3Failure for what is no head. */
  read(bytes: Uint8Array, start: number): { readonly head: ResponseHead | undefined; readonly next: number } {
    for (let at = start; at < bytes.byteLength; ) {
      const { line, next } = this.#lines.read(bytes, at);
      at = next;
      const head = line === undefined ? undefined : this.#takeLine(line);
      if (head !== undefined) return { head, next };
    }
    return { head: undefined, next: bytes.byteLength };
  }

  #takeLine(line: string): ResponseHead | undefined {
    if (this.#status === undefined) this.#status = statusLine(line);
    else if (line !== '') this.#takeHeader(line);
    else if (this.#status.status >= 200) return headOf(this.#status, this.#headers);
    else this.#skipInterim(this.#status.status);
    return undefined;
  }

  #takeHeader(line: string): void {
    const [, name, value = ''] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r]*)$/.exec(line) ?? [];
    if (name === undefined) throw notHttp('has a header that is none');
    const key = name.toLowerCase();
    const text = value.replace(/^[ \t]+|[ \t]+$/g, '');
    const before = this.#headers.get(key);
    if (before === undefined) this.#headers.set(key, [text]);
    else before.push(text);
  }

  /** 100 Continue and the like: the answer follows. */
  #skipInterim(status: number): void {
    if (status === 101) throw notHttp('leaves HTTP without being asked');
    this.#status = undefined;
    this.#headers = new Map();
  }
}

interface StatusLine {
  readonly minorVersion: string;
  readonly status: number;
}

function statusLine(line: string): StatusLine {
  const [, minorVersion, status] = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: [^\r]*)?$/.exec(line) ?? [];
  if (minorVersion === undefined) throw notHttp('has no status line');
  return { minorVersion, status: Number(status) };
}

function headOf({ status, minorVersion }: StatusLine, all: ReadonlyMap<string, readonly string[]>): ResponseHead {
  // One that came twice is no text, so whoever needs it does not take it.
  const headers = Object.fromEntries([...all].map(([name, values]) => [name, values.length === 1 ? values[0] : values])) as IncomingHttpHeaders;
  const connection = all.get('connection')?.join() ?? '';
  return { status, headers, length: lengthOf(status, all), keepsAlive: minorVersion === '1' && !/(?:^|,)\s*close\s*(?:,|$)/i.test(connection) };
}

function lengthOf(status: number, all: ReadonlyMap<string, readonly string[]>): ResponseHead['length'] {
  const [encodings, lengths] = [all.get('transfer-encoding'), all.get('content-length')];
  if (encodings !== undefined && lengths !== undefined) throw notHttp('has a length and an encoding');
  if (lengths !== undefined && !(lengths.length === 1 && /^\d{1,15}$/.test(lengths[0] ?? ''))) throw notHttp('has no one length');
  if (encodings !== undefined && !(encodings.length === 1 && /^chunked$/i.test(encodings[0] ?? ''))) throw notHttp('has an unknown transfer-encoding');
  if (status === 204 || status === 304) return 0;
  if (encodings !== undefined) return 'chunked';
  return lengths === undefined ? 'until close' : Number(lengths[0]);
}
