/** A stream of the process, as far as it is needed here. */
export interface TextStream {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** Where a command's output goes: results to stdout, all else to stderr. */
export interface Screen {
  /** Prints the result: JSON if that was asked for, else the text for people. */
  result(json: unknown, text: string): void;
  /** Prints a line that is no result. */
  warn(text: string): void;
  /** Shows how far a long run is, on a terminal only; undefined clears the line. */
  progress(text: string | undefined): void;
}

/** Makes the screen of one call. */
export function makeScreen(streams: { readonly stdout: TextStream; readonly stderr: TextStream }, isJson: boolean): Screen {
  const { stdout, stderr } = streams;
  let isShowing = false;
  const progress = (text: string | undefined): void => {
    if (stderr.isTTY !== true || isJson || (text === undefined && !isShowing)) return;
    stderr.write(`\r\u001b[K${text === undefined ? '' : printable(text)}`);
    isShowing = text !== undefined;
  };
  return {
    progress,
    result(json, text) {
      progress(undefined);
      stdout.write(`${isJson ? JSON.stringify(json, undefined, 2) : printable(text)}\n`);
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
