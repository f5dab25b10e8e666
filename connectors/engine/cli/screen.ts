/** A stream of the process, as far as it is needed here. */
export interface TextStream {
  readonly isTTY?: boolean;
  /** False where the caller should wait for `drain`. */
  write(text: string): boolean;
  once(event: 'drain', listener: () => void): unknown;
}

/** Where a command's output goes: results to stdout, all else to stderr. */
export interface Screen {
  /** Prints the result: JSON if that was asked for, else the text for people. */
  result(json: unknown, text: string): void;
  /** Prints a result that is too long to be held: the pieces of a JSON text if that was asked for, else those for people. */
  stream(json: () => AsyncIterable<string>, text: () => AsyncIterable<string>): Promise<void>;
  /** Prints a line that is no result. */
  warn(text: string): void;
  /** Shows how far a long run is, on a terminal only; undefined clears the line. */
  progress(text: string | undefined): void;
}

const STREAM_STEP = 1 << 16;
const PROGRESS_INTERVAL_MS = 100;

/** Makes the screen of one call. */
export function makeScreen(streams: { readonly stdout: TextStream; readonly stderr: TextStream }, isJson: boolean): Screen {
  const { stdout, stderr } = streams;
  let isShowing = false;
  let shownAt = -Infinity;
  const progress = (text: string | undefined): void => {
    if (stderr.isTTY !== true || isJson || (text === undefined && !isShowing)) return;
    if (text !== undefined && performance.now() < shownAt + PROGRESS_INTERVAL_MS) return;
    shownAt = text === undefined ? -Infinity : performance.now();
    stderr.write(`\r\u001b[K${text === undefined ? '' : printable(text)}`);
    isShowing = text !== undefined;
  };
  return {
    progress,
    result(json, text) {
      progress(undefined);
      stdout.write(`${isJson ? JSON.stringify(json, undefined, 2) : printable(text)}\n`);
    },
    async stream(json, text) {
      // Nothing is printed before there is a step's worth: a failure at the start prints no half result.
      let waiting = '';
      const flush = async (): Promise<void> => {
        progress(undefined);
        const canGoOn = stdout.write(waiting);
        waiting = '';
        if (!canGoOn) await new Promise<void>((resolve) => stdout.once('drain', resolve));
      };
      for await (const piece of isJson ? json() : text()) {
        waiting += isJson ? piece : printable(piece);
        if (waiting.length >= STREAM_STEP) await flush();
      }
      waiting += '\n';
      await flush();
    },
    warn(text) {
      progress(undefined);
      stderr.write(`${printable(text)}\n`);
    },
  };
}

/** Text without the control characters that a hostile file could play with the terminal by. */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/g, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`);
}
