// What an S3 server answers to a GET, as bytes of HTTP/1.1. The first byte of an input says how the rest arrives: in which pieces.
import { isDeepStrictEqual } from 'node:util';
import { AnswerReader } from '../../../connectors/storage/s3/answer-reader.js';
import { S3Failure } from '../../../connectors/storage/s3/failure.js';
import { collectStart, Fill } from '../../../connectors/storage/s3/sink.js';
import type { Answer } from '../../../connectors/storage/s3/transport.js';
import { randomOf } from '../random.js';
import { expectSame, expectThat, type FuzzTarget } from '../target.js';

const MAX_BODY_BYTES = 1 << 16;

const stream = (...lines: readonly string[]): Uint8Array => Buffer.from(`\u0001${lines.join('\r\n')}`, 'latin1');

export const s3Wire: FuzzTarget = {
  name: 's3-wire',

  seeds: () => ({
    value: stream('HTTP/1.1 200 OK', 'Accept-Ranges: bytes', 'Content-Length: 5', 'Content-Type: application/octet-stream', 'Etag: "abc"', '', 'hello'),
    range: stream('HTTP/1.1 206 Partial Content', 'Content-Length: 10', 'Content-Range: bytes 0-9/100', 'Etag: "abc"', 'X-Amz-Meta-Kvreel-Bytes: 100', '', '0123456789'),
    missing: stream('HTTP/1.1 404 Not Found', 'Transfer-Encoding: chunked', '', '1a', '<Error><Code>NoSuchKey</Co', 'd', 'de></Error>..', '0', '', ''),
    busy: stream('HTTP/1.1 503 Slow Down', 'Retry-After: 1', 'Connection: close', '', '<Error><Code>SlowDown</Code></Error>'),
    interim: stream('HTTP/1.1 100 Continue', '', 'HTTP/1.1 304 Not Modified', 'Etag: "abc"', '', ''),
  }),

  meet(input) {
    const [seed = 0, ...rest] = input;
    const bytes = Uint8Array.from(rest);
    const whole = outcomeOf([bytes], false);
    for (const isDirect of [false, true]) {
      expectThat(isDeepStrictEqual(outcomeOf(cut(bytes, seed), isDirect), whole), 'how an answer is cut on its way, and who writes its body, does not change what it says');
    }
    return whole.end;
  },
};

interface Outcome {
  readonly end: string;
  readonly answer?: Answer;
  /** Bytes that are not of the answer. */
  readonly over?: number;
}

function outcomeOf(pieces: readonly Uint8Array[], isDirect: boolean): Outcome {
  const memory = new Uint8Array(MAX_BODY_BYTES + 1).fill(0xa5);
  let length = 0;
  const reader = new AnswerReader(({ status, headers }) => {
    const announced = Number(headers['content-length']);
    if (status >= 300 || !(announced <= MAX_BODY_BYTES)) return collectStart(MAX_BODY_BYTES);
    return new Fill(memory.subarray(0, (length = announced)));
  });
  let over = 0;
  try {
    for (const piece of pieces) over += piece.length - feed(reader, piece, isDirect);
    expectSame(memory.subarray(length), new Uint8Array(memory.length - length).fill(0xa5), 'the bytes after the body');
    return reader.isDone ? { end: 'accepted', answer: reader.end(), over } : { end: 'waits for more' };
  } catch (error) {
    if (error instanceof S3Failure) return { end: error.code };
    throw error;
  }
}

/** As a connection does: what belongs to a body may be written to its place, and only told. Gives how many bytes were taken. */
function feed(reader: AnswerReader, piece: Uint8Array, isDirect: boolean): number {
  let at = 0;
  while (at < piece.length && !reader.isDone) {
    const room = isDirect ? reader.room : undefined;
    if (room === undefined) at += reader.push(piece.subarray(at));
    else {
      const next = piece.subarray(at, at + room.length);
      room.set(next);
      reader.advance(next.length);
      at += next.length;
    }
  }
  return at;
}

function cut(bytes: Uint8Array, seed: number): Uint8Array[] {
  const random = randomOf(seed, bytes.length);
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) pieces.push(bytes.subarray(at, (at += 1 + random.below(seed % 2 === 0 ? 3 : 40))));
  return pieces;
}
