/** One command as the pieces to write, in order. */
export type Command = readonly Uint8Array[];

const LINE_END = Buffer.from('\r\n');

/** A command of short ASCII words. */
export function command(...words: readonly (string | number)[]): Command {
  return [Buffer.from(header(words, words.length), 'utf8')];
}

/** Stores a value, for a whole number of milliseconds if given. The value is not copied. */
export function setCommand(key: string, value: Uint8Array, ttlMs: number | undefined): Command {
  const ending = ttlMs === undefined ? '\r\n' : `\r\n${['PX', ttlMs].map(word).join('')}`;
  const start = `${header(['SET', key], ttlMs === undefined ? 3 : 5)}$${value.byteLength}\r\n`;
  return [Buffer.from(start), value, ttlMs === undefined ? LINE_END : Buffer.from(ending)];
}

function header(words: readonly (string | number)[], count: number): string {
  return `*${count}\r\n${words.map(word).join('')}`;
}

function word(text: string | number): string {
  return `$${Buffer.byteLength(String(text))}\r\n${text}\r\n`;
}
