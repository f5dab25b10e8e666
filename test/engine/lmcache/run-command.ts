// A command of the command line, called in this process.
import { makeCall, parse, type Command } from '../../../connectors/engine/cli/command.js';
import { makeScreen } from '../../../connectors/engine/cli/screen.js';

/** What a command printed. */
export interface Printed {
  readonly json: Record<string, unknown>;
  readonly warnings: string;
}

/** Runs a command with --json. Rejects with what it rejects with. */
export async function runCommand(command: Command, args: readonly string[], env: Record<string, string> = {}): Promise<Printed> {
  const printed = { stdout: '', stderr: '' };
  const stream = (name: 'stdout' | 'stderr') => ({
    write(text: string) {
      printed[name] += text;
      return true;
    },
    once: () => undefined,
  });
  const screen = makeScreen({ stdout: stream('stdout'), stderr: stream('stderr') }, true);
  await command.run(makeCall(command, parse(command, args), { screen, signal: new AbortController().signal, env }));
  return { json: JSON.parse(printed.stdout) as Record<string, unknown>, warnings: printed.stderr };
}
