import { readFileSync } from 'node:fs';

/** Version of the package. */
export function version(): string {
  // The command line is built into one file, so both stand as deep below the package.
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));
  return String((manifest as { version?: unknown }).version);
}
