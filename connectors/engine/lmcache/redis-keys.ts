import { Buffer } from 'node:buffer';
import { Redis } from 'ioredis';
import { KvError } from '../../../lib/errors.js';
import type { Place } from './place.js';

const CONNECT_LIMIT_MS = 5_000;
const COMMAND_LIMIT_MS = 60_000;
const KEYS_A_SCAN = 1000;

/** Credentials where the URL has none. */
export interface RedisCredentials {
  readonly username: string | undefined;
  readonly password: string | undefined;
}

/** The keys of one Redis or Valkey. `url` is redis://, rediss:// or, as LMCache says it, resp:// or valkey://, with credentials if need be. */
export function redisKeys(url: URL, { username, password }: RedisCredentials): Place {
  const label = `${url.protocol}//${url.host}${url.pathname}`;
  const scheme = url.protocol === 'rediss:' ? 'rediss:' : 'redis:';
  const client = new Redis(url.href.replace(/^[a-z]+:/, scheme), {
    ...(url.password === '' && password !== undefined && { password, ...(username !== undefined && { username }) }),
    lazyConnect: true,
    connectTimeout: CONNECT_LIMIT_MS,
    commandTimeout: COMMAND_LIMIT_MS,
    retryStrategy: null,
  });
  // Where the server refuses the connection, commands only say that it is closed.
  let refusal: Error | undefined;
  client.on('error', (error: Error) => (refusal = error));

  const ask = async <T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> => {
    signal?.throwIfAborted();
    try {
      if (client.status === 'wait') await client.connect();
      return await work();
    } catch (cause) {
      throw toKvError(cause instanceof Error && cause.name === 'ReplyError' ? cause : (refusal ?? cause), label);
    }
  };

  return {
    label,

    async *list({ signal }) {
      let cursor = '0';
      do {
        const [next, keys] = await ask(signal, () => client.scan(cursor, 'COUNT', KEYS_A_SCAN));
        // A key can come twice while the server grows; an import then only does it again.
        yield* keys;
        cursor = next;
      } while (cursor !== '0');
    },

    get: async (name, { signal }) => (await ask(signal, () => client.getBuffer(name))) ?? undefined,

    async put(name, pieces, { signal }) {
      const [first] = pieces;
      const value = pieces.length === 1 && first !== undefined ? Buffer.from(first.buffer, first.byteOffset, first.length) : Buffer.concat(pieces);
      await ask(signal, () => client.set(name, value));
    },

    async close() {
      client.disconnect();
    },
  };
}

function toKvError(cause: unknown, label: string): unknown {
  if (!(cause instanceof Error)) return cause;
  if (cause.name === 'ReplyError') {
    if (cause.message.startsWith('WRONGTYPE')) return new KvError('KV_CORRUPT_OBJECT', 'the key does not hold a string; LMCache did not write it', { cause });
    if (cause.message.startsWith('OOM')) return new KvError('KV_NO_SPACE', `${label} is full; raise its maxmemory or evict`, { cause });
    return new KvError('KV_CONNECTOR_REFUSED', `${label} refused: ${cause.message}`, { cause });
  }
  if (cause.message === 'Command timed out') return new KvError('KV_CONNECTOR_TIMEOUT', `${label} did not answer within ${COMMAND_LIMIT_MS} ms`, { cause });
  return new KvError('KV_CONNECTOR_UNAVAILABLE', `${label} cannot be reached; check address and server`, { cause });
}
