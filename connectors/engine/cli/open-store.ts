import type { StorageConnector } from '../../../lib/store/connector.js';
import { checkLimit, timeLimit } from '../../../lib/store/time-limit.js';
import { encrypted, parseEncryptionKeys, type EncryptionKeys } from '../../storage/encrypted.js';
import { prefixed } from '../../storage/prefixed.js';
import { openStoreUrl } from '../store-url.js';
import { UsageError, type Call } from './command.js';
import { readWholeFile } from './input-file.js';

/** How long an interrupted command waits for calls that are stuck. */
const CLOSE_LIMIT_MS = 1000;

const TENANT = /^[A-Za-z0-9._-]{1,64}$/;

/**
 * Lends the store of the call's `--store` to `work` and closes it. The call that `work` gets ends with KV_CONNECTOR_TIMEOUT after the
 * `--deadline`. Throws a UsageError for a URL that names no store.
 */
export async function withStore<T>(call: Call, work: (connector: StorageConnector, limited: Call) => Promise<T>): Promise<T> {
  const url = call.requiredText('store');
  const deadlineMs = call.integer('deadline', 1);
  await asUsage('--deadline', async () => checkLimit('deadline', deadlineMs));
  const limit = timeLimit(call, deadlineMs, 'the command');
  try {
    return await lend(await openStore(url, call), limit.signal, (connector) => work(connector, { ...call, signal: limit.signal ?? call.signal }));
  } finally {
    limit.release();
  }
}

/** Lends the store at another URL, within the limits of `call`. */
export async function withOtherStore<T>(url: string | undefined, call: Call, work: (connector: StorageConnector | undefined) => Promise<T>): Promise<T> {
  return url === undefined ? work(undefined) : lend(await openStore(url, call), call.signal, work);
}

/** The store at a URL, as the call's `--tenant` and `--encryption-keys` say; whoever opened it closes it. Throws a UsageError for a URL that names no store. */
export async function openStore(url: string, call: Call): Promise<StorageConnector> {
  const wrap = await wrapping(call);
  const [redisPassword, s3Region] = [call.variable('KV_REDIS_PASSWORD'), call.variable('AWS_REGION')];
  return asUsage('--store', async () => wrap(await openStoreUrl(url, { ...(redisPassword !== undefined && { redisPassword }), ...(s3Region !== undefined && { s3Region }) })));
}

// The tenant's part outermost: what is encrypted is bound to its whole key, and so to its tenant.
async function wrapping(call: Call): Promise<(connector: StorageConnector) => StorageConnector> {
  const tenant = call.text('tenant');
  if (tenant !== undefined && !TENANT.test(tenant)) throw new UsageError(`expected --tenant to be 1 to 64 letters, digits, dots, dashes or underscores, got ${JSON.stringify(tenant)}`);
  const keys = await encryptionKeys(call);
  return (connector) => {
    const sealed = keys === undefined ? connector : encrypted(connector, keys);
    return tenant === undefined ? sealed : prefixed(sealed, `tenants/${tenant}/`);
  };
}

async function encryptionKeys(call: Call): Promise<EncryptionKeys | undefined> {
  const path = call.text('encryption-keys');
  if (path === undefined) return undefined;
  const text = new TextDecoder().decode(await readWholeFile(path, call));
  return asUsage('--encryption-keys', async () => parseEncryptionKeys(text));
}

async function lend<T>(connector: StorageConnector, signal: AbortSignal | undefined, work: (connector: StorageConnector) => Promise<T>): Promise<T> {
  try {
    return await work(connector);
  } finally {
    const closed = connector.close();
    await (signal?.aborted === true ? Promise.race([closed, new Promise((resolve) => setTimeout(resolve, CLOSE_LIMIT_MS))]) : closed);
  }
}

/** What a constructor refuses, the caller of the command line got wrong. */
async function asUsage<T>(option: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof TypeError || cause instanceof RangeError)) throw cause;
    throw new UsageError(`${option}: ${cause.message}`, { cause });
  }
}
