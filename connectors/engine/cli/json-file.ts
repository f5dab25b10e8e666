import { UsageError, type Call } from './command.js';
import { readWholeFile } from './input-file.js';

/** What a JSON file that was named on the command line holds. Rejects with a UsageError where it is no JSON, and as `readWholeFile` does. */
export async function readJsonFile(path: string, call: Call): Promise<unknown> {
  const text = new TextDecoder().decode(await readWholeFile(path, call));
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UsageError(`${path}: expected JSON: ${cause instanceof Error ? cause.message : ''}`, { cause });
  }
}
