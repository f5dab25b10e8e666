/** One command as the pieces to write, in order. */
export type Command = readonly (string | Uint8Array)[];

/** A command of short words. */
export function command(...words: readonly (string | number)[]): Command {
  return [header(words, words.length)];
}

/** Stores a value, for a whole number of milliseconds if given. The value is not copied. */
export function setCommand(key: string, value: Uint8Array, ttlMs: number | undefined): Command {
  const start = header(['SET', key], ttlMs === undefined ? 3 : 5);
  const lifetime = ttlMs === undefined ? '' : `${word('PX')}${word(ttlMs)}`;
  return [`${start}$${value.byteLength}\r\n`, value, `\r\n${lifetime}`];
}

/** The pieces of some commands, as few as they can be. */
export function joined(commands: readonly Command[]): Command {
  const pieces: (string | Uint8Array)[] = [];
  for (const piece of commands.flat()) {
    const last = pieces.at(-1);
    if (typeof piece === 'string' && typeof last === 'string') pieces[pieces.length - 1] = last + piece;
    else pieces.push(piece);
  }
  return pieces;
}

function header(words: readonly (string | number)[], count: number): string {
  return `*${count}\r\n${words.map(word).join('')}`;
}

function word(text: string | number): string {
  return `$${Buffer.byteLength(String(text))}\r\n${text}\r\n`;
}
