#!/usr/bin/env node
// The command line: the one place that reads the environment and knows every storage connector.
import { benchCodecCommand } from './cli/bench-codec.js';
import { COMMON_OPTIONS, helpOf, makeCall, Miss, parse, synopsisOf, UsageError, type Command } from './cli/command.js';
import { decodeCommand } from './cli/decode.js';
import { doctorCommand } from './cli/doctor.js';
import { encodeCommand } from './cli/encode.js';
import { codeOf } from './cli/error-code.js';
import { exportLmcacheCommand } from './cli/export-lmcache.js';
import { extractCommand } from './cli/extract.js';
import { fetchCommand } from './cli/fetch.js';
import { gcCommand } from './cli/gc.js';
import { importLmcacheCommand } from './cli/import-lmcache.js';
import { inspectCommand } from './cli/inspect.js';
import { lsCommand } from './cli/ls.js';
import { putCommand } from './cli/put.js';
import { makeScreen, printable } from './cli/screen.js';
import { serveCommand } from './cli/serve.js';
import { statsCommand } from './cli/stats.js';
import { verifyCommand } from './cli/verify.js';
import { version } from './cli/version.js';

const COMMANDS: readonly Command[] = [
  encodeCommand,
  decodeCommand,
  inspectCommand,
  verifyCommand,
  extractCommand,
  putCommand,
  fetchCommand,
  lsCommand,
  statsCommand,
  gcCommand,
  importLmcacheCommand,
  exportLmcacheCommand,
  benchCodecCommand,
  serveCommand,
  doctorCommand,
];

const EXIT = { ok: 0, failed: 1, usage: 2, miss: 3, unreachable: 4, interrupted: 130, terminated: 143 } as const;
const UNREACHABLE: ReadonlySet<string> = new Set(['KV_CONNECTOR_TIMEOUT', 'KV_CONNECTOR_UNAVAILABLE']);

/** The process was asked to end. */
class Interruption extends Error {
  override readonly name = 'Interruption';
  readonly exitCode: number;

  constructor(signal: 'SIGINT' | 'SIGTERM') {
    super(`stopped by ${signal}; nothing was left half-written`);
    this.exitCode = signal === 'SIGINT' ? EXIT.interrupted : EXIT.terminated;
  }
}

// The AWS SDK would tell users of the command line which Node they should have.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= 'true';

/** How long a call that was given up may keep the process alive. */
const LEFT_BEHIND_MS = 1000;

process.exitCode = await main(process.argv.slice(2));
// A system call that is stuck cannot be taken back. Not after a success, whose output somebody may be reading slowly.
if (process.exitCode >= EXIT.unreachable) setTimeout(() => process.exit(), LEFT_BEHIND_MS).unref();

async function main(args: readonly string[]): Promise<number> {
  // Who reads our output may stop early, as `head` does: no failure of ours.
  process.stdout.on('error', (error: Error & { code?: string }) => process.exit(error.code === 'EPIPE' ? EXIT.ok : EXIT.failed));
  const interruption = new AbortController();
  // Once: a second signal ends the process at once, as is usual.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interruption.abort(new Interruption(signal)));
  try {
    return await dispatch(args, interruption.signal);
  } catch (error) {
    return report(error, args.includes('--json'));
  }
}

async function dispatch(args: readonly string[], signal: AbortSignal): Promise<number> {
  const command = COMMANDS.find(({ name }) => name.split(' ').every((word, i) => word === args[i]));
  if (command === undefined) return withoutCommand(args);
  const parsed = parse(command, args.slice(command.name.split(' ').length));
  const screen = makeScreen(process, parsed.values.json === true);
  if (parsed.values.help === true) {
    screen.result(helpJson(command), helpOf(command));
    return EXIT.ok;
  }
  try {
    await command.run(makeCall(command, parsed, { screen, signal, env: process.env }));
  } finally {
    screen.progress(undefined);
  }
  return EXIT.ok;
}

function withoutCommand(args: readonly string[]): number {
  const isJson = args.includes('--json');
  const screen = makeScreen(process, isJson);
  if (args.includes('--help') || args.includes('-h')) screen.result({ commands: COMMANDS.map(helpJson) }, topHelp());
  else if (args.includes('--version')) screen.result({ version: version() }, version());
  else throw new UsageError(`${args[0] === undefined ? 'expected a command' : `unknown command ${JSON.stringify(args[0])}`}\n\n${topHelp()}`);
  return EXIT.ok;
}

function topHelp(): string {
  const width = Math.max(...COMMANDS.map((command) => synopsisOf(command).length));
  const lines = COMMANDS.map((command) => `  ${synopsisOf(command).padEnd(width)}  ${command.summary}`);
  return [
    'kvreel: stores the KV cache of a prompt prefix small and verified',
    '',
    ...lines,
    '',
    '`kvreel COMMAND --help` lists the options of a command.',
    'Exit codes: 0 done, 1 failed, 2 wrong call, 3 not stored, 4 store unreachable or too slow.',
  ].join('\n');
}

function helpJson(command: Command): Record<string, unknown> {
  return { name: command.name, synopsis: synopsisOf(command), summary: command.summary, options: { ...command.options, ...COMMON_OPTIONS } };
}

function report(error: unknown, isJson: boolean): number {
  const { code, exitCode } = classify(error);
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(isJson ? `${JSON.stringify({ error: { code, message } })}\n` : `kvreel: ${printable(message)} [${code}]\n`);
  return exitCode;
}

function classify(error: unknown): { code: string; exitCode: number } {
  const code = codeOf(error);
  if (code !== undefined) return { code, exitCode: UNREACHABLE.has(code) ? EXIT.unreachable : EXIT.failed };
  if (error instanceof UsageError) return { code: 'USAGE', exitCode: EXIT.usage };
  if (error instanceof Miss) return { code: 'MISS', exitCode: EXIT.miss };
  if (error instanceof Interruption) return { code: 'INTERRUPTED', exitCode: error.exitCode };
  return { code: 'INTERNAL', exitCode: EXIT.failed };
}
