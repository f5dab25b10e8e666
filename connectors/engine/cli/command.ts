import { parseArgs, type ParseArgsConfig } from 'node:util';
import { DURATION_FORM, durationMs, SIZE_FORM, sizeBytes } from './quantity.js';
import type { Screen } from './screen.js';

/** A mistake in how the command line was called: exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** What was asked for is not stored: exit code 3. */
export class Miss extends Error {
  override readonly name = 'Miss';
}

/** One option of a command. */
export interface OptionSpec {
  /** What its value is called in the help; absent for a switch. */
  readonly value?: string;
  readonly short?: string;
  readonly help: string;
  /** Also read from the environment, as KV_ and its name in capitals. */
  readonly isInEnvironment?: boolean;
}

/** One command of the command line, one file each. */
export interface Command {
  readonly name: string;
  /** As the help shows them. */
  readonly operands: readonly string[];
  /** The last operand may be repeated. */
  readonly isVariadic?: boolean;
  /** The operand may be left out. */
  readonly isOptional?: boolean;
  readonly summary: string;
  readonly options: Readonly<Record<string, OptionSpec>>;
  /** Rejects with a KvError, a UsageError, a Miss, or the signal's reason. */
  run(call: Call): Promise<void>;
}

/** A command's operands and options as given, and where its output goes. */
export interface Call {
  readonly operands: readonly string[];
  readonly screen: Screen;
  readonly signal: AbortSignal;
  isSet(option: string): boolean;
  text(option: string): string | undefined;
  /** Throws a UsageError where the option was not given. */
  requiredText(option: string): string;
  /** Throws a UsageError for what is no whole number of at least `least`. */
  integer(option: string, least: number): number | undefined;
  /** Throws a UsageError for what is none of `choices`. */
  choice(option: string, choices: readonly string[]): string | undefined;
  /** In milliseconds. Throws a UsageError for what is no duration. */
  duration(option: string): number | undefined;
  /** In bytes. Throws a UsageError for what is no size. */
  size(option: string): number | undefined;
  /** A variable of the environment that is no option: what would stand there for everybody to see on a command line, or is another program's. */
  variable(name: string): string | undefined;
}

/** What every command takes beside its own options. */
export const COMMON_OPTIONS: Readonly<Record<string, OptionSpec>> = {
  json: { help: 'print the result as JSON; errors too, on stderr' },
  help: { short: 'h', help: 'print this help' },
};

/** Options and operands, sorted out. Throws a UsageError for an unknown option or a missing value. */
export function parse(command: Command, args: readonly string[]): { values: Readonly<Record<string, string | boolean | undefined>>; operands: readonly string[] } {
  const specs = { ...command.options, ...COMMON_OPTIONS };
  const options = Object.fromEntries(
    Object.entries(specs).map(([name, { value, short }]) => [name, { type: value === undefined ? ('boolean' as const) : ('string' as const), ...(short !== undefined && { short }) }]),
  );
  const config: ParseArgsConfig = { args, options, allowPositionals: true };
  try {
    const { values, positionals } = parseArgs(config);
    return { values: values as Record<string, string | boolean | undefined>, operands: positionals };
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    throw new UsageError(cause.message, { cause });
  }
}

/** The call of a command with these arguments. Throws a UsageError for a wrong number of operands. */
export function makeCall(
  command: Command,
  { values, operands }: ReturnType<typeof parse>,
  world: { readonly screen: Screen; readonly signal: AbortSignal; readonly env: Readonly<Record<string, string | undefined>> },
): Call {
  checkOperands(command, operands);
  const text = (option: string): string | undefined => {
    const given = values[option];
    if (typeof given === 'string') return given;
    const isInEnvironment = command.options[option]?.isInEnvironment ?? false;
    return isInEnvironment ? world.env[`KV_${option.replaceAll('-', '_').toUpperCase()}`] : undefined;
  };
  function quantity(option: string, form: string, parse: (text: string) => number | undefined): number | undefined {
    const value = text(option);
    const parsed = value === undefined ? undefined : parse(value);
    if (value !== undefined && parsed === undefined) throw new UsageError(`expected --${option} to be written like ${form}, got ${JSON.stringify(value)}`);
    return parsed;
  }
  return {
    operands,
    screen: world.screen,
    signal: world.signal,
    text,
    duration: (option) => quantity(option, DURATION_FORM, durationMs),
    size: (option) => quantity(option, SIZE_FORM, sizeBytes),
    variable: (name) => world.env[name] || undefined,
    isSet: (option) => values[option] === true,
    requiredText(option) {
      const value = text(option);
      if (value === undefined || value === '') throw new UsageError(`expected --${option} ${command.options[option]?.value ?? ''}`);
      return value;
    },
    integer(option, least) {
      const value = text(option);
      if (value === undefined) return undefined;
      if (!/^\d{1,15}$/.test(value) || Number(value) < least) throw new UsageError(`expected --${option} to be a whole number of at least ${least}, got ${JSON.stringify(value)}`);
      return Number(value);
    },
    choice(option, choices) {
      const value = text(option);
      if (value !== undefined && !choices.includes(value)) throw new UsageError(`expected --${option} to be one of ${choices.join(', ')}, got ${JSON.stringify(value)}`);
      return value;
    },
  };
}

/** The help of one command. */
export function helpOf(command: Command): string {
  const rows = Object.entries({ ...command.options, ...COMMON_OPTIONS }).map(([name, { short, value, help, isInEnvironment }]) => {
    const flag = `${short === undefined ? '    ' : `-${short}, `}--${name}${value === undefined ? '' : ` ${value}`}`;
    return [flag, isInEnvironment ? `${help} (or KV_${name.replaceAll('-', '_').toUpperCase()})` : help] as const;
  });
  const width = Math.max(...rows.map(([flag]) => flag.length));
  const options = rows.map(([flag, help]) => `  ${flag.padEnd(width)}  ${help}`);
  return [`kvreel ${synopsisOf(command)}`, '', command.summary, '', ...options].join('\n');
}

/** One line: a command with its operands. */
export function synopsisOf(command: Command): string {
  const operands = command.operands.map((operand) => (command.isOptional ? `[${operand}]` : operand));
  return [command.name, ...operands].join(' ') + (command.isVariadic ? '...' : '');
}

function checkOperands(command: Command, operands: readonly string[]): void {
  const { length } = command.operands;
  const isLeftOut = command.isOptional === true && operands.length === 0;
  const fits = isLeftOut || (command.isVariadic ? operands.length >= length : operands.length === length);
  if (!fits) throw new UsageError(`expected ${command.operands.join(' ') || 'no operand'}${command.isVariadic ? '...' : ''}, got ${operands.length} operands`);
}
