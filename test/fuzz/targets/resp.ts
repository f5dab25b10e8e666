// What a Redis server answers. The first byte of an input says how the rest arrives: whole, or cut into pieces by a seed, values through the
// parser or straight into their memory.
import { isDeepStrictEqual } from 'node:util';
import { ProtocolError, ReplyParser, type Reply } from '../../../connectors/storage/redis/reply-parser.js';
import { randomOf } from '../random.js';
import { expectThat, type FuzzTarget } from '../target.js';

const MAX_BULK_BYTES = 1 << 16;

/** As a caller refuses a value that is too large for it. */
class Refused extends Error {}

const stream = (text: string): Uint8Array => Buffer.from(`\u0001${text}`, 'latin1');

export const resp: FuzzTarget = {
  name: 'resp',

  seeds: () => ({
    status: stream('+OK\r\n+PONG\r\n'),
    error: stream('-WRONGTYPE Operation against a key holding the wrong kind of value\r\n-ERR x\r\n'),
    numbers: stream(':0\r\n:-12\r\n:999999999999\r\n'),
    value: stream('$5\r\nhello\r\n$0\r\n\r\n$-1\r\n'),
    range: stream('+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n:1\r\n:10\r\n$4\r\nabcd\r\n'),
    aborted: stream('+OK\r\n-MOVED 3999 127.0.0.1:6381\r\n*-1\r\n*0\r\n'),
    binary: Buffer.concat([stream('$300\r\n'), Uint8Array.from({ length: 300 }, (_, i) => i), Buffer.from('\r\n')]),
  }),

  meet(input) {
    const [first = 0, ...rest] = input;
    const bytes = Uint8Array.from(rest);
    const whole = outcomeOf([bytes], pushed);
    expectThat(isDeepStrictEqual(outcomeOf(cut(bytes, first), pushed), whole), 'how an answer is cut on its way does not change what it says');
    expectThat(isDeepStrictEqual(outcomeOf(cut(bytes, first), placed), whole), 'who writes a value to its memory does not change what an answer says');
    return whole.end;
  },
};

interface Outcome {
  readonly replies: readonly Reply[];
  readonly end: string;
}

/** Hands a piece to the parser. */
type Feed = (parser: ReplyParser, piece: Uint8Array) => void;

const pushed: Feed = (parser, piece) => parser.push(piece);

/** As a connection does: what belongs to a value is written to its place, and only told. */
const placed: Feed = (parser, piece) => {
  for (let at = 0; at < piece.length; ) {
    const { room } = parser;
    const count = room === undefined ? 0 : Math.min(room.length, piece.length - at);
    const next = piece.subarray(at, at + Math.max(count, 1));
    if (count === 0) parser.push(next); // byte by byte, as a value may begin after any of them
    else room?.set(next);
    parser.advance(count);
    at += next.length;
  }
};

function outcomeOf(pieces: readonly Uint8Array[], feed: Feed): Outcome {
  const replies: Reply[] = [];
  let bulkBytes = 0;
  const parser = new ReplyParser({
    place(length) {
      bulkBytes += length;
      if (length > MAX_BULK_BYTES || bulkBytes > 4 * MAX_BULK_BYTES) throw new Refused();
      return new Uint8Array(length);
    },
    receive: (reply) => void replies.push(reply),
  });
  try {
    for (const piece of pieces) feed(parser, piece);
    return { replies, end: parser.isBetweenReplies ? 'accepted' : 'waits for more' };
  } catch (error) {
    if (error instanceof ProtocolError) return { replies, end: 'ProtocolError' };
    if (error instanceof Refused) return { replies, end: 'refused by the caller' };
    throw error;
  }
}

function cut(bytes: Uint8Array, seed: number): Uint8Array[] {
  const random = randomOf(seed, bytes.length);
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) pieces.push(bytes.subarray(at, (at += 1 + random.below(seed % 2 === 0 ? 3 : 40))));
  return pieces;
}
