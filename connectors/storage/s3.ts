import type { CallOptions, GetOptions, ListedValue, PutOptions, StorageConnector } from '../../lib/store/connector.js';
import { checkKey, checkPrefix, checkPut, checkRange } from './arguments.js';
import { lifeCycle } from './life-cycle.js';
import { control } from './s3/control.js';
import { credentialSource } from './s3/credentials.js';
import { toConnectorError, tooLarge } from './s3/failure.js';
import { getTransport } from './s3/get-transport.js';
import { keyOfName, namePrefix, objectName } from './s3/object-name.js';
import { objects } from './s3/objects.js';
import { checkOptions, type S3Options } from './s3/options.js';
import { withRetries } from './s3/retry.js';
import { signer } from './s3/signer.js';
import { transport } from './s3/transport.js';
import { uploads } from './s3/uploads.js';

export type { S3Credentials, S3Options } from './s3/options.js';

/**
 * Keeps each value as an object of a bucket; a put is visible whole or not at all. Objects under the same prefix that are not
 * ours are neither listed nor touched. Beside KV_CLOSED, verbs reject with KV_CONNECTOR_TIMEOUT, KV_CONNECTOR_UNAVAILABLE,
 * KV_CONNECTOR_REFUSED, KV_PERMISSION, KV_NO_SPACE or KV_CORRUPT_OBJECT (not the length that was put). What fails for a moment
 * is tried up to four times within the time limit. `delete` looks first, because S3 does not tell: of two at once, both may say true.
 * `sweep` drops uploads in parts that began a day ago or earlier and never ended: nobody sees them, and they take space.
 */
export function s3(options: S3Options): StorageConnector {
  const settings = checkOptions(options);
  const { bucket, prefix, maxValueBytes, timeoutMs, partBytes } = settings;
  const name = 's3';
  const supports = { range: true, ttl: false };
  const life = lifeCycle(name, timeoutMs);

  const [gets, puts, others] = [getTransport(settings), transport(settings), transport(settings)];
  const sdk = control(settings, others, () => credentials());
  const credentials = credentialSource(settings.credentials, sdk.chain);
  const plain = objects(settings, signer(settings, credentials), { gets, puts, others });
  const inParts = uploads({ objects: plain, control: sdk, partBytes });

  function run<T>(attempt: string, options: CallOptions, work: (signal: AbortSignal | undefined) => Promise<T>): Promise<T> {
    return life.run(options, async (signal) => {
      try {
        return await work(signal);
      } catch (cause) {
        throw toConnectorError(cause, `${attempt} in ${bucket}/${prefix}`);
      }
    });
  }

  const nameOf = (key: string): string => {
    checkKey(key);
    return prefix + objectName(key);
  };

  return {
    name,
    supports,

    get: (key: string, options: GetOptions = {}) =>
      run(`get "${key}"`, options, async (signal) => {
        const object = nameOf(key);
        checkRange(options.range);
        return withRetries(signal, () => plain.get(object, options, signal));
      }),

    put: (key: string, value: Uint8Array, options: PutOptions = {}) =>
      run(`put "${key}"`, options, async (signal) => {
        const object = nameOf(key);
        checkPut(value, options, supports.ttl);
        if (value.byteLength > maxValueBytes) throw tooLarge(value.byteLength, maxValueBytes);
        if (value.byteLength > partBytes) return inParts.put(object, value, signal);
        return withRetries(signal, () => plain.put(object, value, signal));
      }),

    has: (key, options = {}) =>
      run(`look for "${key}"`, options, async (signal) => {
        const object = nameOf(key);
        return (await withRetries(signal, () => plain.size(object, signal))) !== undefined;
      }),

    delete: (key, options = {}) =>
      run(`delete "${key}"`, options, async (signal) => {
        const object = nameOf(key);
        if ((await withRetries(signal, () => plain.size(object, signal))) === undefined) return false;
        await withRetries(signal, () => plain.delete(object, signal));
        return true;
      }),

    async *list(keyPrefix, options = {}): AsyncGenerator<ListedValue> {
      let from: string | undefined;
      do {
        // Each page is a call of its own, so that a caller who stops half way does not keep close() waiting.
        const page = await run(`list "${keyPrefix}"`, options, async (signal) => {
          checkPrefix(keyPrefix);
          return withRetries(signal, () => sdk.list(prefix + namePrefix(keyPrefix), from, signal));
        });
        for (const { name, bytes, storedAtMs } of page.items) {
          options.signal?.throwIfAborted();
          const key = keyOfName(name.slice(prefix.length));
          if (key?.startsWith(keyPrefix)) yield { key, bytes, storedAtMs };
        }
        from = page.next;
      } while (from !== undefined);
    },

    // Each page and each upload is a call of its own: together they may take longer than one call may.
    sweep: (options = {}) => inParts.sweep(prefix, Date.now() - ONE_DAY_MS, (work) => run('sweep', options, work)),

    async close() {
      await life.close();
      await sdk.close();
      await Promise.all([gets, puts, others].map((way) => way.close()));
    },
  };
}

const ONE_DAY_MS = 24 * 60 * 60 * 1000;
