// The parser of foreign bytes, without sockets: however they are cut, and whatever they are.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ProtocolError, ReplyError, ReplyParser, type Reply, type SingleReply } from '../../connectors/storage/redis/reply-parser.js';

const LARGEST = 100_000;

class Refusal extends Error {}

/** Feeds a parser; `bytesPlaced` counts the memory that it asked for. */
function parserWithLimit(): { readonly parser: ReplyParser; readonly replies: Reply[]; bytesPlaced(): number } {
  const replies: Reply[] = [];
  let placed = 0;
  const parser = new ReplyParser({
    place(length) {
      if (length > LARGEST) throw new Refusal();
      placed += length;
      return new Uint8Array(length);
    },
    receive: (reply) => void replies.push(reply),
  });
  return { parser, replies, bytesPlaced: () => placed };
}

/** Feeds `bytes` cut at the given places, the direct way where `isDirect` says so and a place is known. */
function feed(parser: ReplyParser, bytes: Uint8Array, cuts: readonly number[], isDirect: boolean): void {
  const ends = [...cuts.map((cut) => cut % (bytes.byteLength + 1)), bytes.byteLength].sort((a, b) => a - b);
  let at = 0;
  for (const end of ends) {
    while (at < end) {
      const room = isDirect ? parser.room : undefined;
      const count = room === undefined || room.byteLength === 0 ? end - at : Math.min(room.byteLength, end - at);
      const piece = bytes.subarray(at, at + count);
      if (room === undefined || room.byteLength === 0) parser.push(piece);
      else {
        room.set(piece);
        parser.advance(count);
      }
      at += count;
    }
  }
}

function encoded(reply: Reply): Buffer {
  if (reply === null) return Buffer.from('$-1\r\n');
  if (typeof reply === 'string') return Buffer.from(`+${reply}\r\n`);
  if (typeof reply === 'number') return Buffer.from(`:${reply}\r\n`);
  if (reply instanceof ReplyError) return Buffer.from(`-${reply.message}\r\n`);
  if (reply instanceof Uint8Array) return Buffer.concat([Buffer.from(`$${reply.byteLength}\r\n`), reply, Buffer.from('\r\n')]);
  return Buffer.concat([Buffer.from(`*${reply.length}\r\n`), ...reply.map(encoded)]);
}

const line = fc.string({ maxLength: 60 }).map((text) => text.replace(/[^\x20-\x7e]/g, '.'));
const single: fc.Arbitrary<SingleReply> = fc.oneof(
  line,
  fc.integer(),
  fc.constant(null),
  line.map((text) => new ReplyError(text)),
  fc.uint8Array({ maxLength: 300 }),
  fc.constantFrom('+', '\r\n$5\r\n', '\n').map((text) => new Uint8Array(Buffer.from(text))),
);
const anyReply: fc.Arbitrary<Reply> = fc.oneof(single, fc.array(single, { maxLength: 8 }));

describe('the parser of replies', () => {
  it('gives the same replies however their bytes are cut', () => {
    const property = fc.property(fc.array(anyReply, { maxLength: 6 }), fc.array(fc.nat(), { maxLength: 12 }), fc.boolean(), (sent, cuts, isDirect) => {
      const { parser, replies } = parserWithLimit();
      feed(parser, Buffer.concat(sent.map(encoded)), cuts, isDirect);
      expect(replies).toEqual(sent);
      expect(parser.isBetweenReplies).toBe(true);
    });
    fc.assert(property, { numRuns: 500 });
  });

  it('is not between replies at any place inside one', () => {
    const bytes = encoded(['OK', null, new Uint8Array(20), 7]);
    for (let end = 1; end < bytes.byteLength; end++) {
      const { parser, replies } = parserWithLimit();
      parser.push(bytes.subarray(0, end));
      expect({ end, between: parser.isBetweenReplies, replies }).toEqual({ end, between: false, replies: [] });
    }
  });

  it.each([
    ['an unknown type', '!3\r\nabc\r\n'],
    ['a line that ends in LF alone', '+OK\n'],
    ['a length below -1', '$-2\r\n'],
    ['a length with a fraction', '$1.5\r\n'],
    ['a length with spaces', '$ 1\r\n'],
    ['no length', '$\r\n'],
    ['a length of 16 digits', '$9999999999999999\r\n'],
    ['a number with letters', ':1a\r\n'],
    ['a number that cannot be exact', ':99999999999999999\r\n'],
    ['a value that is longer than announced', '$1\r\nab\r\n'],
    ['a value with another line end', '$1\r\na\n\n'],
    ['too many elements', '*9\r\n'],
    ['an array in an array', '*1\r\n*1\r\n'],
    ['a line without an end', '+'.padEnd(5000, 'x')],
  ])('refuses %s', (_, text) => {
    for (const cuts of [[], [1], [2, 3], [4, 5, 6]]) {
      const { parser, replies } = parserWithLimit();
      expect(() => feed(parser, Buffer.from(text), cuts, false)).toThrow(ProtocolError);
      expect(replies).toEqual([]);
    }
  });

  it('asks before it takes a value, and goes no further if that is refused', () => {
    const { parser, replies } = parserWithLimit();
    expect(() => parser.push(Buffer.from(`:1\r\n$${LARGEST + 1}\r\nabc`))).toThrow(Refusal);
    expect(replies).toEqual([1]);
  });

  it('takes damaged replies the same way by push and by advance, and asks for no more memory than came and one value', () => {
    const damage = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 3 });
    const property = fc.property(fc.array(anyReply, { minLength: 1, maxLength: 4 }), damage, fc.array(fc.nat(), { maxLength: 8 }), (sent, changes, cuts) => {
      const bytes = Buffer.concat(sent.map(encoded));
      for (const [at, byte] of changes) bytes[at % bytes.byteLength] = byte;
      const [whole, cut] = [outcomeOf(bytes, [], false), outcomeOf(bytes, cuts, true)];
      expect(cut).toEqual(whole);
      expect(whole.placed).toBeLessThanOrEqual(bytes.byteLength + LARGEST);
    });
    fc.assert(property, { numRuns: 2000 });
  });
});

function outcomeOf(bytes: Uint8Array, cuts: readonly number[], isDirect: boolean): { readonly end: string; readonly replies: readonly Reply[]; readonly placed: number } {
  const { parser, replies, bytesPlaced } = parserWithLimit();
  let end = '';
  try {
    feed(parser, bytes, cuts, isDirect);
    end = String(parser.isBetweenReplies);
  } catch (cause) {
    if (!(cause instanceof ProtocolError) && !(cause instanceof Refusal)) throw cause;
    end = cause.message;
  }
  return { end, replies, placed: bytesPlaced() };
}
