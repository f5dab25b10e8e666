// Reads the head of an answer (HTTP/1.1, RFC 9112), piece by piece as it comes. What could be read in two ways is refused: two lengths,
// a length beside chunks, folded lines.
import { notHttp, type S3Failure } from './failure.js';
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

const HEADER = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\0-\x08\x0a-\x1f\x7f]*)$/;

/** Reads one head. */
export class HeadReader {
  /** Bytes of the lines that were taken. */
  #bytes = 0;
  /** The start of a line whose end has not come. */
  #rest = '';
  #status: StatusLine | undefined;
  #headers = noHeaders();

  /** Takes bytes from `start` on, up to the head's end: gives that, if it has come, and where the body starts. Throws an S3Failure for what is no head. */
  read(bytes: Uint8Array, start: number): { readonly head: ResponseHead | undefined; readonly next: number } {
    const before = this.#rest.length;
    // At once, as text: a line at a time costs twice as much (`npm run bench -- connectors`, gets of 1 MiB).
    const text = this.#rest + Buffer.from(bytes.buffer, bytes.byteOffset + start, bytes.byteLength - start).toString('latin1');
    let at = 0;
    for (let end = text.indexOf('\r\n'); end !== -1; end = text.indexOf('\r\n', at)) {
      this.#count(end + 2 - at);
      const head = this.#takeLine(text.slice(at, end));
      at = end + 2;
      if (head !== undefined) return { head, next: start + at - before };
    }
    this.#rest = text.slice(at);
    // Now, not at the end of the line: that of what is no HTTP may never come.
    if (/[\0-\x08\x0a-\x0c\x0e-\x1f\x7f]|\r(?!$)/.test(this.#rest)) throw notHttp('has a line that is no text');
    if (this.#bytes + this.#rest.length > MAX_HEAD_BYTES) throw tooLong();
    return { head: undefined, next: bytes.byteLength };
  }

  #count(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes > MAX_HEAD_BYTES) throw tooLong();
  }

  #takeLine(line: string): ResponseHead | undefined {
    if (this.#status === undefined) this.#status = statusLine(line);
    else if (line !== '') this.#takeHeader(line);
    else if (this.#status.status >= 200) return headOf(this.#status, this.#headers);
    else this.#skipInterim(this.#status.status);
    return undefined;
  }

  #takeHeader(line: string): void {
    const [, name, value = ''] = HEADER.exec(line) ?? [];
    if (name === undefined) throw notHttp('has a header that is none');
    const key = name.toLowerCase();
    const text = withoutSpaceAround(value);
    const before = this.#headers[key];
    // One that came twice is no text, so whoever needs it does not take it.
    if (before === undefined) this.#headers[key] = text;
    else if (typeof before === 'string') this.#headers[key] = [before, text];
    else before.push(text);
  }

  /** 100 Continue and the like: the answer follows. */
  #skipInterim(status: number): void {
    if (status === 101) throw notHttp('leaves HTTP without being asked');
    this.#status = undefined;
    this.#headers = noHeaders();
  }
}

type Headers = Record<string, string | string[]>;

/** Without a prototype: a header may be called as what objects have. */
function noHeaders(): Headers {
  return Object.create(null) as Headers;
}

interface StatusLine {
  readonly minorVersion: string;
  readonly status: number;
}

function statusLine(line: string): StatusLine {
  const [, minorVersion, status] = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: [^\0-\x08\x0a-\x1f\x7f]*)?$/.exec(line) ?? [];
  if (minorVersion === undefined) throw notHttp('has no status line');
  return { minorVersion, status: Number(status) };
}

function headOf({ status, minorVersion }: StatusLine, headers: Headers): ResponseHead {
  const { connection = '' } = headers;
  const isLast = minorVersion !== '1' || /(?:^|,)\s*close\s*(?:,|$)/i.test(String(connection));
  return { status, headers, length: lengthOf(status, headers), keepsAlive: !isLast };
}

function lengthOf(status: number, { 'transfer-encoding': encoding, 'content-length': length }: Headers): ResponseHead['length'] {
  if (encoding !== undefined && length !== undefined) throw notHttp('has a length and an encoding');
  if (length !== undefined && !(typeof length === 'string' && /^\d{1,15}$/.test(length))) throw notHttp('has no one length');
  if (encoding !== undefined && !(typeof encoding === 'string' && /^chunked$/i.test(encoding))) throw notHttp('has an unknown transfer-encoding');
  if (status === 204 || status === 304) return 0;
  if (encoding !== undefined) return 'chunked';
  return length === undefined ? 'until close' : Number(length);
}

/** Spaces and tabs alone; `trim` takes more. In time that grows with the text, as a regular expression's would not. */
function withoutSpaceAround(text: string): string {
  const isSpace = (at: number): boolean => text[at] === ' ' || text[at] === '\t';
  let [start, end] = [0, text.length];
  while (isSpace(start)) start++;
  while (end > start && isSpace(end - 1)) end--;
  return text.slice(start, end);
}

function tooLong(): S3Failure {
  return notHttp('has too long a head');
}
