import { openPlace, type OpenedPlace } from '../lmcache/open-place.js';
import { UsageError, type Call } from './command.js';

/**
 * Opens the place that `option` and --format name, lends it to `work` and closes it. Throws a UsageError for text that names none.
 * Credentials of Redis come from the URL or, as LMCache's do, from LMCACHE_RESP_USERNAME and LMCACHE_RESP_PASSWORD.
 */
export async function withPlace<T>(call: Call, option: 'from' | 'to', work: (opened: OpenedPlace) => Promise<T>): Promise<T> {
  const opened = await open(call, option);
  try {
    return await work(opened);
  } finally {
    await opened.place.close();
  }
}

async function open(call: Call, option: string): Promise<OpenedPlace> {
  try {
    return await openPlace(call.requiredText(option), { format: call.text('format'), username: call.variable('LMCACHE_RESP_USERNAME'), password: call.variable('LMCACHE_RESP_PASSWORD') });
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    throw new UsageError(`--${option}: ${cause.message}`, { cause });
  }
}
