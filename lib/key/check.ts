import { Buffer } from 'node:buffer';

/** Python pickles longer texts in another way; no engine sends any. */
const MAX_TEXT_BYTES = 0xffff;

/** Throws a TypeError unless `value` is an object with no other fields than `known`. */
export function checkFields(name: string, value: object, known: readonly string[]): void {
  if (typeof value !== 'object' || value === null) throw new TypeError(`expected \`${name}\` to be an object, got ${String(value)}`);
  const unknown = Object.keys(value).find((field) => !known.includes(field));
  if (unknown !== undefined) throw new TypeError(`expected \`${name}\` to have only ${known.join(', ')}, got ${unknown}`);
}

/** Throws unless `value` is an integer from `least` to `most`. */
export function checkInteger(name: string, value: number, least: number, most: number): void {
  if (typeof value !== 'number') throw new TypeError(`expected \`${name}\` to be a number, got ${typeof value}`);
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`expected \`${name}\` to be an integer from ${least} to ${most}, got ${value}`);
  }
}

/** Throws unless `value` is a text that UTF-8 can write. */
export function checkText(name: string, value: string): void {
  if (typeof value !== 'string') throw new TypeError(`expected \`${name}\` to be a string, got ${typeof value}`);
  if (/\p{Surrogate}/u.test(value)) throw new RangeError(`expected \`${name}\` to be well-formed Unicode, got a lone surrogate`);
  const bytes = Buffer.byteLength(value);
  if (bytes > MAX_TEXT_BYTES) throw new RangeError(`expected \`${name}\` to be at most ${MAX_TEXT_BYTES} bytes of UTF-8, got ${bytes}`);
}

/** Throws unless `value` is a text that `pattern` matches; `expected` says in words what that is. */
export function checkPattern(name: string, value: string, pattern: RegExp, expected: string): void {
  if (typeof value !== 'string') throw new TypeError(`expected \`${name}\` to be a string, got ${typeof value}`);
  if (!pattern.test(value)) throw new RangeError(`expected \`${name}\` to be ${expected}, got ${value}`);
}
