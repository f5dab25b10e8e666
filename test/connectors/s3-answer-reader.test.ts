// The parser of foreign bytes, without sockets: however they are cut, and whatever they are.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AnswerReader } from '../../connectors/storage/s3/answer-reader.js';
import { S3Failure } from '../../connectors/storage/s3/failure.js';
import { collectStart, Fill } from '../../connectors/storage/s3/sink.js';
import type { AnswerHead } from '../../connectors/storage/s3/transport.js';

const LARGEST = 1000;

interface Outcome {
  readonly end: string;
  readonly head: AnswerHead | undefined;
  readonly body: string;
  /** Bytes that were not taken. */
  readonly over: number;
}

/** Feeds `bytes` cut at the given places, a body straight to its memory where `isDirect` says so. */
function outcomeOf(bytes: Uint8Array, cuts: readonly number[] = [], isDirect = false): Outcome {
  let head: AnswerHead | undefined;
  const reader = new AnswerReader((came) => {
    head = { status: came.status, headers: { ...came.headers } };
    const length = Number(came.headers['content-length']);
    if (came.status === 200 && length <= LARGEST) return new Fill(new Uint8Array(length));
    return collectStart(LARGEST);
  });
  const ends = [...cuts.map((cut) => cut % (bytes.byteLength + 1)), bytes.byteLength].sort((a, b) => a - b);
  let at = 0;
  try {
    for (const end of ends) {
      while (at < end && !reader.isDone) {
        const room = isDirect ? reader.room : undefined;
        if (room === undefined) at += reader.push(bytes.subarray(at, end));
        else {
          const piece = bytes.subarray(at, Math.min(end, at + room.byteLength));
          room.set(piece);
          reader.advance(piece.byteLength);
          at += piece.byteLength;
        }
      }
    }
    const isDone = reader.isDone || reader.isUntilClose;
    const end = isDone ? `done${reader.keepsAlive ? ', kept' : ''}` : 'waits for more';
    return { end, head, body: isDone ? Buffer.from(reader.end().body).toString('latin1') : '', over: bytes.byteLength - at };
  } catch (cause) {
    if (!(cause instanceof S3Failure)) throw cause;
    return { end: cause.code, head, body: '', over: 0 };
  }
}

const bytesOf = (...lines: readonly string[]): Buffer => Buffer.from(lines.join('\r\n'), 'latin1');
const VALUE = bytesOf('HTTP/1.1 200 OK', 'ETag: "x"', 'content-length:  5 ', 'X-Two: a', 'x-two: b', 'empty:', '', 'hello');
const MISS = bytesOf('HTTP/1.1 404 Not Found', 'Transfer-Encoding: Chunked', '', '4;note=1', '<Err', '00b', 'or></Error>', '0', 'trailer: t', '', '');
const INTERIM = bytesOf('HTTP/1.1 100 Continue', '', 'HTTP/1.1 103 Early Hints', 'link: x', '', 'HTTP/1.1 200 OK', 'content-length: 1', '', 'x');
const UNTIL_CLOSE = bytesOf('HTTP/1.1 503 Busy', 'retry-after: 1', '', 'later');

describe('the reader of answers', () => {
  it('gives status, headers in lower case and the body', () => {
    const headers = { etag: '"x"', 'content-length': '5', 'x-two': ['a', 'b'], empty: '' };
    expect(outcomeOf(VALUE)).toEqual({ end: 'done, kept', head: { status: 200, headers }, body: 'hello', over: 0 });
    expect(outcomeOf(MISS)).toMatchObject({ end: 'done, kept', head: { status: 404 }, body: '<Error></Error>', over: 0 });
    expect(outcomeOf(INTERIM)).toMatchObject({ end: 'done, kept', head: { status: 200, headers: { 'content-length': '1' } }, body: 'x' });
    expect(outcomeOf(UNTIL_CLOSE)).toMatchObject({ end: 'done', body: 'later' });
  });

  it('gives the same at every place where an answer is cut, in one piece, two, or single bytes', () => {
    for (const answer of [VALUE, MISS, INTERIM, UNTIL_CLOSE]) {
      const whole = outcomeOf(answer);
      for (const isDirect of [false, true]) {
        for (let cut = 0; cut <= answer.byteLength; cut++) expect(outcomeOf(answer, [cut], isDirect)).toEqual(whole);
        expect(outcomeOf(answer, [...answer.keys()], isDirect)).toEqual(whole);
      }
    }
  });

  it('waits for more at every place inside an answer', () => {
    for (const answer of [VALUE, MISS, INTERIM]) {
      for (let end = 0; end < answer.byteLength; end++) expect(outcomeOf(answer.subarray(0, end))).toMatchObject({ end: 'waits for more' });
    }
  });

  it('takes no byte after the end', () => {
    for (const answer of [VALUE, MISS, INTERIM]) expect(outcomeOf(Buffer.concat([answer, Buffer.from('HTTP/1.1 200 OK\r\n')]))).toMatchObject({ end: 'done, kept', over: 17 });
  });

  it.each([
    ['that the server closes after it', 'HTTP/1.1 404 X\r\ncontent-length: 0\r\nConnection: foo, Close\r\n\r\n'],
    ['of HTTP/1.0', 'HTTP/1.0 404 X\r\ncontent-length: 0\r\n\r\n'],
  ])('does not keep a connection %s', (_, text) => expect(outcomeOf(Buffer.from(text))).toMatchObject({ end: 'done', body: '' }));

  it.each([204, 304])('reads no body after %i', (status) => {
    expect(outcomeOf(bytesOf(`HTTP/1.1 ${status} X`, 'content-length: 7', '', ''))).toMatchObject({ end: 'done, kept', body: '' });
  });

  it.each([
    ['another protocol', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['another version', 'HTTP/2.0 200 OK\r\n'],
    ['a status of two digits', 'HTTP/1.1 20 OK\r\n'],
    ['a status above 599', 'HTTP/1.1 600 OK\r\n'],
    ['a line that ends in LF alone', 'HTTP/1.1 200 OK\n'],
    ['a CR in a line', 'HTTP/1.1 200 OK\r\na: b\rc\r\n'],
    ['a NUL, before its line ends', 'HTTP/1.1 200 OK\r\na: \0'],
    ['a header without a colon', 'HTTP/1.1 200 OK\r\nheader\r\n'],
    ['a header without a name', 'HTTP/1.1 200 OK\r\n: value\r\n'],
    ['a space before the colon', 'HTTP/1.1 200 OK\r\ncontent-length : 5\r\n'],
    ['a folded line', 'HTTP/1.1 200 OK\r\na: b\r\n c\r\n'],
    ['two lengths', 'HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n'],
    ['two lengths in one', 'HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n'],
    ['a length below 0', 'HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n'],
    ['a length with a sign', 'HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n'],
    ['an empty length', 'HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n'],
    ['a length that cannot be exact', 'HTTP/1.1 200 OK\r\ncontent-length: 9999999999999999\r\n\r\n'],
    ['a length and chunks', 'HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n'],
    ['an unknown transfer-encoding', 'HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n'],
    ['a change of protocol', 'HTTP/1.1 101 X\r\nupgrade: x\r\n\r\n'],
    ['a chunk without a size', 'HTTP/1.1 400 X\r\ntransfer-encoding: chunked\r\n\r\n;a\r\n'],
    ['a chunk with a size below 0', 'HTTP/1.1 400 X\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n'],
    ['a chunk above 4 GiB', 'HTTP/1.1 400 X\r\ntransfer-encoding: chunked\r\n\r\n100000000\r\n'],
    ['a chunk that is longer than it says', 'HTTP/1.1 400 X\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n'],
    ['a line without an end', `HTTP/1.1 200 OK\r\na: ${'x'.repeat(70_000)}`],
    ['headers without an end', `HTTP/1.1 200 OK\r\n${'a: b\r\n'.repeat(12_000)}`],
    ['interim answers without an end', 'HTTP/1.1 100 X\r\n\r\n'.repeat(5000)],
    ['trailers without an end', `HTTP/1.1 400 X\r\ntransfer-encoding: chunked\r\n\r\n0\r\n${'a: b\r\n'.repeat(12_000)}`],
  ])('refuses %s', (_, text) => {
    for (const cuts of [[], [1], [text.length - 1], [text.length - 2]]) expect(outcomeOf(Buffer.from(text, 'latin1'), cuts)).toMatchObject({ end: 'KV_CONNECTOR_UNAVAILABLE' });
  });

  it('reads no more of an explanation than its sink wants', () => {
    const text = `HTTP/1.1 500 X\r\ntransfer-encoding: chunked\r\n\r\n${'10\r\n0123456789abcdef\r\n'.repeat(100)}`;
    expect(outcomeOf(Buffer.from(text))).toMatchObject({ end: 'done', body: '0123456789abcdef'.repeat(100).slice(0, LARGEST) });
  });

  it('takes a header called __proto__ for a header', () => {
    const { head } = outcomeOf(bytesOf('HTTP/1.1 404 X', '__proto__: x', 'content-length: 0', '', ''));
    expect(Object.keys(head?.headers ?? {})).toEqual(['__proto__', 'content-length']);
  });

  it('gives the same for any bytes however they are cut, and refuses by its code only', () => {
    const start = fc.constantFrom(VALUE, MISS, INTERIM, UNTIL_CLOSE, Buffer.alloc(0));
    const damage = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 3 });
    const property = fc.property(start, damage, fc.uint8Array({ maxLength: 100 }), fc.array(fc.nat(), { maxLength: 8 }), (answer, changes, more, cuts) => {
      const bytes = Buffer.concat([answer, more]);
      for (const [at, byte] of changes) bytes[at % Math.max(1, bytes.byteLength)] = byte;
      expect(outcomeOf(bytes, cuts, true)).toEqual(outcomeOf(bytes));
    });
    fc.assert(property, { numRuns: 3000 });
  });
});
