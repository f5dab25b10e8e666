// Python's own hash() of ints, tuples and texts, as CPython 3.11 and later compute it on 64-bit machines. Results are
// signed; -1 means an error inside CPython and never comes out.

const INT_MODULUS = (1n << 61n) - 1n;

// Objects/tupleobject.c (the primes of xxHash).
const PRIME_1 = 11400714785074694791n;
const PRIME_2 = 14029467366897019727n;
const PRIME_5 = 2870177450012600261n;
const TUPLE_OF_MINUS_ONE = 1546275796n;

/** The 128-bit key of CPython's str hash. */
export interface TextHashKey {
  readonly low: bigint;
  readonly high: bigint;
}

/** hash() of an int. */
export function hashInt(value: bigint): bigint {
  const hash = value % INT_MODULUS;
  return hash === -1n ? -2n : hash;
}

/** hash() of a tuple, given the hashes of its items. */
export function hashTuple(items: readonly bigint[]): bigint {
  let sum = PRIME_5;
  for (const item of items) {
    sum = wrap(sum + wrap(item) * PRIME_2);
    sum = wrap(rotateLeft(sum, 31n) * PRIME_1);
  }
  sum = wrap(sum + (BigInt(items.length) ^ PRIME_5 ^ 3527539n));
  return sum === wrap(-1n) ? TUPLE_OF_MINUS_ONE : BigInt.asIntN(64, sum);
}

/** The key that the environment variable PYTHONHASHSEED, 0 to 2^32 - 1, gives CPython. */
export function textHashKey(seed: number): TextHashKey {
  if (seed === 0) return { low: 0n, high: 0n };
  const secret = new DataView(new ArrayBuffer(16));
  let state = seed;
  for (let i = 0; i < secret.byteLength; i += 1) {
    state = (Math.imul(state, 214013) + 2531011) >>> 0;
    secret.setUint8(i, state >>> 16);
  }
  return { low: secret.getBigUint64(0, true), high: secret.getBigUint64(8, true) };
}

/** hash() of an ASCII str that is not empty: SipHash-1-3 (Aumasson and Bernstein, 2012). */
export function hashText(text: string, key: TextHashKey): bigint {
  const state: SipState = [
    key.low ^ 0x736f6d6570736575n,
    key.high ^ 0x646f72616e646f6dn,
    key.low ^ 0x6c7967656e657261n,
    key.high ^ 0x7465646279746573n,
  ];
  for (const word of sipWords(text)) {
    state[3] ^= word;
    sipRound(state);
    state[0] ^= word;
  }
  state[2] ^= 0xffn;
  for (let i = 0; i < 3; i += 1) sipRound(state);
  const hash = BigInt.asIntN(64, state[0] ^ state[1] ^ state[2] ^ state[3]);
  return hash === -1n ? -2n : hash;
}

type SipState = [bigint, bigint, bigint, bigint];

/** The text as little-endian 64-bit words, zero-padded, with its length in the last byte. */
function sipWords(text: string): bigint[] {
  const padded = new DataView(new ArrayBuffer(8 * (Math.floor(text.length / 8) + 1)));
  for (let i = 0; i < text.length; i += 1) padded.setUint8(i, text.charCodeAt(i));
  padded.setUint8(padded.byteLength - 1, text.length);
  const words: bigint[] = [];
  for (let at = 0; at < padded.byteLength; at += 8) words.push(padded.getBigUint64(at, true));
  return words;
}

function sipRound(state: SipState): void {
  let [a, b, c, d] = state;
  a = wrap(a + b);
  c = wrap(c + d);
  b = rotateLeft(b, 13n) ^ a;
  d = rotateLeft(d, 16n) ^ c;
  a = rotateLeft(a, 32n);
  c = wrap(c + b);
  a = wrap(a + d);
  b = rotateLeft(b, 17n) ^ c;
  d = rotateLeft(d, 21n) ^ a;
  c = rotateLeft(c, 32n);
  state[0] = a;
  state[1] = b;
  state[2] = c;
  state[3] = d;
}

function rotateLeft(value: bigint, bits: bigint): bigint {
  return wrap(value << bits) | (value >> (64n - bits));
}

function wrap(value: bigint): bigint {
  return BigInt.asUintN(64, value);
}
