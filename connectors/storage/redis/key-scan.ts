import type { ListedValue } from '../../../lib/store/connector.js';
import type { ControlClient, ControlCommand } from './control-client.js';
import { ProtocolError, ReplyError } from './reply-parser.js';

/** Some of the values that a server holds. */
export interface KeyPage {
  readonly values: readonly ListedValue[];
  /** Where to go on. Undefined after the last page. */
  readonly next: string | undefined;
}

/** Keys that one step looks at. */
const SCAN_COUNT = 1000;

/** The next page of the strings whose key starts with `prefix`. A key may come more than once. Cursor '0' starts. */
export async function keysOf(
  control: ControlClient,
  { prefix, cursor }: { readonly prefix: string; readonly cursor: string },
  signal: AbortSignal | undefined,
): Promise<KeyPage> {
  const [reply] = await control.send([['SCAN', cursor, 'MATCH', `${escaped(prefix)}*`, 'COUNT', SCAN_COUNT, 'TYPE', 'string']], signal);
  if (reply instanceof ReplyError) throw reply;
  const [next, found]: unknown[] = Array.isArray(reply) ? reply : [];
  if (typeof next !== 'string' || !Array.isArray(found)) throw new ProtocolError('a scan that is none');
  const keys = found.filter((key: unknown): key is string => typeof key === 'string' && key.startsWith(prefix));
  return { values: await sizesOf(control, keys, signal), next: next === '0' ? undefined : next };
}

/** A value that has gone meanwhile has length 0, as an empty one has; EXISTS after it tells them apart. */
async function sizesOf(control: ControlClient, keys: readonly string[], signal: AbortSignal | undefined): Promise<ListedValue[]> {
  const asked = keys.flatMap((key): ControlCommand[] => [['STRLEN', key], ['EXISTS', key]]);
  const replies = await control.send(asked, signal);
  return keys.flatMap((key, i) => {
    const [bytes, exists] = [replies[2 * i], replies[2 * i + 1]];
    // An error: it is no string any more, or has moved to another member of the cluster.
    return exists === 1 && typeof bytes === 'number' ? [{ key, bytes }] : [];
  });
}

/** The prefix as a pattern that matches itself alone. */
function escaped(prefix: string): string {
  return prefix.replace(/[\\*?[\]^-]/g, '\\$&');
}
