// The daemon's log: one JSON object a line, without secrets.
import { pino, type DestinationStream, type Logger } from 'pino';
import type { LmEvents } from '../lm/events.js';
import type { DaemonEvents } from './events.js';

export type { Logger } from 'pino';

/** From what is told most to what is told least. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

export type LogLevel = (typeof LOG_LEVELS)[number];

/** How to log. */
export interface LoggingOptions {
  /** Default `info`. */
  readonly level?: LogLevel;
  /** Texts that no line may hold: tokens, passwords. */
  readonly secrets?: readonly string[];
  /** Default: stderr. */
  readonly destination?: DestinationStream;
}

const REDACTED = '[redacted]';
// Passwords in URLs, and tokens in headers, whoever put them into a message.
const PATTERNS: readonly [RegExp, string][] = [
  [/(\w+:\/\/)[^\s/@]*:[^\s/@]*@/g, `$1${REDACTED}@`],
  [/\b(Bearer|Basic) +[\w.~+/=-]+/gi, `$1 ${REDACTED}`],
];
/** Lines that say the same are written once in this time, with how many there were. */
const QUIET_MS = 10_000;

/** Makes the daemon's logger. Lines go to stderr unless said otherwise, each whole before the next. */
export function makeLogger({ level = 'info', secrets = [], destination = standardError() }: LoggingOptions = {}): Logger {
  // Also as JSON writes it. The longest first: one may be the beginning of another.
  const longest = secrets.flatMap((secret) => [secret, JSON.stringify(secret).slice(1, -1)]).filter((secret) => secret !== '').sort((a, b) => b.length - a.length);
  const clean = (text: string): string => {
    const without = longest.reduce((rest, secret) => rest.replaceAll(secret, REDACTED), text);
    return PATTERNS.reduce((rest, [pattern, instead]) => rest.replace(pattern, instead), without);
  };
  return pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    // What is written is one line of JSON: cleaned as a whole, no field is forgotten.
    { write: (line) => void destination.write(clean(line)) },
  );
}

// A log that nobody reads any more must not end the daemon.
function standardError(): DestinationStream {
  process.stderr.on('error', () => undefined);
  return process.stderr;
}

/** Writes what an operator should read: failures, notices and errors as they come but not again and again, requests at `debug`. */
export function loggingObserver(logger: Logger, nowMs: () => number = () => performance.now()): Partial<DaemonEvents> & LmEvents {
  const quiet = quieted(nowMs);
  return {
    failed({ verb, code, message, space }) {
      quiet(`${verb} ${code}`, (repeated) => logger.warn({ verb, code, space, ...repeated }, `${verb} failed: ${message}`));
    },
    notice({ level, message }) {
      quiet(message, (repeated) => logger[level](repeated, message));
    },
    request({ method, route, status, ms }) {
      logger.debug({ method, route, status, ms: Math.round(ms * 1000) / 1000 }, 'request');
    },
    onRequest({ command, outcome, reason, rawBytes, ms }) {
      if (reason === undefined) logger.debug({ lm: command, outcome, bytes: rawBytes, ms: Math.round(ms * 1000) / 1000 }, 'lm request');
      else quiet(`lm ${command} ${outcome}`, (repeated) => logger.warn({ lm: command, outcome, ...repeated }, `lm ${command} ${outcome}: ${reason}`));
    },
    onClientLost(reason) {
      quiet('lm client', (repeated) => logger.warn(repeated, `lm client lost: ${reason}`));
    },
    onWarning(reason) {
      quiet(reason, (repeated) => logger.warn(repeated, reason));
    },
  };
}

/** Calls `write` for the first of what is alike, and later tells how many were left out since. */
function quieted(nowMs: () => number): (what: string, write: (repeated: { repeated?: number }) => void) => void {
  const last = new Map<string, { atMs: number; leftOut: number }>();
  const MOST = 1000;
  return (what, write) => {
    const known = last.get(what);
    if (known !== undefined && nowMs() - known.atMs < QUIET_MS) {
      known.leftOut++;
      return;
    }
    if (last.size >= MOST) last.clear();
    last.set(what, { atMs: nowMs(), leftOut: 0 });
    write(known !== undefined && known.leftOut > 0 ? { repeated: known.leftOut } : {});
  };
}
