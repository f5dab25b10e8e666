// Changes of real inputs: of their bytes, and of the values that they hold.
import type { Random } from './random.js';

const MAX_BYTES = 1 << 16;
const BYTES = [0, 1, 0x7f, 0x80, 0xff, 0x0a, 0x0d, 0x22, 0x7b, 0x5b, 0x30, 0x39, 0x40, 0x2d];
const WORDS = [0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x10000, 0xffff, 0x100];
const NUMBERS = [0, 1, -1, 2, 255, 256, 65535, 65536, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 1e300, -0, 0.5, NaN, Infinity];
const TEXTS = ['', '0', 'exact', 'bytes', '__proto__', 'constructor', '\u0000', '\ud800', 'x'.repeat(300), '..', 'ф', '9'.repeat(30), '-1', '1e999'];

/** One to some changes of bytes; `others` are inputs whose parts may be put in. */
export function mutateBytes(input: Uint8Array, others: readonly Uint8Array[], random: Random): Uint8Array {
  let bytes = Uint8Array.from(input);
  do bytes = mutateOnce(bytes, others, random);
  while (!random.oneIn(3));
  return bytes.subarray(0, MAX_BYTES);
}

function mutateOnce(bytes: Uint8Array<ArrayBuffer>, others: readonly Uint8Array[], random: Random): Uint8Array<ArrayBuffer> {
  const at = random.below(bytes.length);
  const length = 1 + random.below(random.oneIn(4) ? bytes.length - at : Math.min(16, bytes.length - at));
  switch (random.below(9)) {
    case 0:
      bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
      return bytes;
    case 1:
      bytes[at] = random.pick(BYTES) ?? 0;
      return bytes;
    case 2:
      bytes[at] = random.below(256);
      return bytes;
    case 3:
      return setWord(bytes, at, random);
    case 4:
      return join(bytes.subarray(0, at), bytes.subarray(at + length));
    case 5:
      return join(bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at));
    case 6:
      return join(bytes.subarray(0, at), Uint8Array.from({ length: random.below(20) }, () => random.below(256)), bytes.subarray(at));
    case 7:
      return bytes.slice(0, at);
    default: {
      const other = random.pick(others) ?? bytes;
      const from = random.below(other.length);
      return join(bytes.subarray(0, at), other.subarray(from, from + 1 + random.below(64)), bytes.subarray(at + (random.oneIn(2) ? length : 0)));
    }
  }
}

function setWord(bytes: Uint8Array<ArrayBuffer>, at: number, random: Random): Uint8Array<ArrayBuffer> {
  if (bytes.length < at + 4) return bytes;
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(at, random.pick(WORDS) ?? 0, random.oneIn(2));
  return bytes;
}

function join(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat(parts));
}

/** A value of msgpack or JSON with one place changed: another number or text, a field gone, added, doubled or renamed, another kind. */
export function mutateValue(value: unknown, random: Random): unknown {
  if (random.oneIn(12)) return strangeValue(random);
  if (value instanceof Uint8Array) return value.length === 0 ? Uint8Array.of(0) : mutateBytes(value, [], random);
  if (typeof value === 'number') return random.oneIn(3) ? value + random.below(5) - 2 : random.pick(NUMBERS);
  if (typeof value === 'string') return random.oneIn(3) ? value + (random.pick(TEXTS) ?? '') : random.oneIn(2) ? value.slice(random.below(value.length)) : random.pick(TEXTS);
  if (Array.isArray(value)) return mutateList(value, random);
  if (typeof value === 'object' && value !== null) return mutateRecord(value as Record<string, unknown>, random);
  return strangeValue(random);
}

function mutateList(list: readonly unknown[], random: Random): unknown[] {
  const at = random.below(list.length);
  switch (random.below(6)) {
    case 0:
      return [...list.slice(0, at), ...list.slice(at + 1)];
    case 1:
      return [...list.slice(0, at), list[at], ...list.slice(at)];
    case 2:
      return list.slice(0, at);
    default:
      return list.map((entry, i) => (i === at ? mutateValue(entry, random) : entry));
  }
}

function mutateRecord(record: Record<string, unknown>, random: Random): Record<string, unknown> {
  const entries = Object.entries(record);
  const at = random.below(entries.length);
  const [name = '', value] = entries[at] ?? [];
  switch (random.below(10)) {
    case 0:
      return Object.fromEntries(entries.filter((_, i) => i !== at));
    case 1:
      return Object.fromEntries([...entries, [random.pick(TEXTS) ?? '', strangeValue(random)]]);
    case 2:
      return Object.fromEntries(entries.map(([key, entry], i) => [i === at ? `${name}${random.pick(TEXTS) ?? ''}` : key, entry]));
    case 3:
      return { ...record, [name]: record[random.pick(Object.keys(record)) ?? ''] };
    default:
      return { ...record, [name]: mutateValue(value, random) };
  }
}

function strangeValue(random: Random): unknown {
  const values: readonly unknown[] = [null, true, false, [], {}, [[]], Uint8Array.of(), Uint8Array.of(1, 2, 3), random.pick(NUMBERS), random.pick(TEXTS), { a: { b: [1] } }];
  return random.pick(values);
}
