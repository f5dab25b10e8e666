// The settings of `kvreel serve`: flags, then KVREEL_* of the environment, then one JSON file.
import { makeCall, UsageError, type Call, type Command } from './command.js';
import { readJsonFile } from './json-file.js';

/** The call as if all settings had been flags; what is wrong in one of another origin says where that is. */
export async function withAllSettings(command: Command, call: Call): Promise<Call> {
  const path = call.text('config') ?? call.variable('KVREEL_CONFIG');
  const file = path === undefined ? {} : await readConfig(path, call);
  const origins = new Map<string, string>();
  const known = new Map(Object.keys(command.options).map((option) => [option.replaceAll('-', '_'), option]));
  const values: Record<string, string> = {};
  for (const [field, value] of Object.entries(file)) {
    const option = known.get(field);
    if (option === undefined || option === 'config') throw new UsageError(`${path}: unknown field ${JSON.stringify(field)}; known are ${[...known.keys()].filter((name) => name !== 'config').join(', ')}`);
    if (typeof value !== 'string' && typeof value !== 'number') throw new UsageError(`${path}: expected ${field} to be text or a number, got ${JSON.stringify(value)?.slice(0, 40)}`);
    values[option] = String(value);
    origins.set(option, `${field} in ${path}`);
  }
  for (const [field, option] of known) {
    const name = `KVREEL_${field.toUpperCase()}`;
    const [flag, variable] = [call.text(option), call.variable(name)];
    if (flag !== undefined) origins.delete(option);
    else if (variable !== undefined) origins.set(option, name);
    const value = flag ?? variable;
    if (value !== undefined) values[option] = value;
  }
  return sayingOrigins({ ...makeCall(command, { values, operands: [] }, { screen: call.screen, signal: call.signal, env: {} }), variable: call.variable }, origins);
}

async function readConfig(path: string, call: Call): Promise<Record<string, unknown>> {
  const config = await readJsonFile(path, call);
  if (typeof config !== 'object' || config === null || Array.isArray(config)) throw new UsageError(`${path}: expected one JSON object, as in {"store": "fs:///var/cache/kv", "socket": "/run/kvreel.sock"}`);
  return config as Record<string, unknown>;
}

function sayingOrigins(call: Call, origins: ReadonlyMap<string, string>): Call {
  const saying = <A extends readonly unknown[], T>(read: (option: string, ...args: A) => T) => {
    return (option: string, ...args: A): T => {
      try {
        return read(option, ...args);
      } catch (error) {
        const origin = origins.get(option);
        if (!(error instanceof UsageError) || origin === undefined) throw error;
        throw new UsageError(`${error.message} (from ${origin})`, { cause: error });
      }
    };
  };
  return { ...call, integer: saying(call.integer), choice: saying(call.choice), duration: saying(call.duration), size: saying(call.size) };
}
