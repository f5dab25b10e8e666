import { KvError } from '../../lib/errors.js';
import type { ByteRange, CallOptions, GetOptions, ListedValue, PutOptions, StorageConnector } from '../../lib/store/connector.js';
import { checkKey, checkPrefix, checkPut, checkRange, placeRead } from './arguments.js';
import { lifeCycle } from './life-cycle.js';
import type { Exchange } from './redis/bulk-connection.js';
import { command, setCommand, type Command } from './redis/command.js';
import type { ControlCommand, ControlReply } from './redis/control-client.js';
import { toConnectorError } from './redis/errors.js';
import { keysOf } from './redis/key-scan.js';
import type { RedisOptions } from './redis/options.js';
import { ProtocolError, ReplyError, type Reply } from './redis/reply-parser.js';
import { clusterServers, oneServer, type Place } from './redis/servers.js';
import { settingsOf } from './redis/settings.js';

export type { RedisOptions, RedisTlsOptions } from './redis/options.js';

/**
 * Keeps values in a Redis (6.2 or newer), a Valkey or a cluster of them, connecting at the first call. Values move over connections
 * of our own, straight from and to the caller's memory; small commands go through ioredis. Beside KV_CLOSED and KV_CONNECTOR_TIMEOUT
 * (`timeoutMs`), verbs reject with KV_CONNECTOR_UNAVAILABLE (not reachable, loading, busy, or no sensible answer), KV_PERMISSION,
 * KV_NO_SPACE or KV_CONNECTOR_REFUSED (read-only, too large, not a string). Values of exactly 2^n bytes waste a third of the
 * server's memory: make them some bytes smaller.
 */
export function redis(options: RedisOptions = {}): StorageConnector {
  const settings = settingsOf(options);
  const name = 'redis';
  const supports = { range: true, ttl: true };
  const life = lifeCycle(name, settings.timeoutMs);
  const servers = settings.cluster ? clusterServers(settings) : oneServer(settings);

  function run<T>(attempt: string, options: CallOptions, work: (signal: AbortSignal | undefined) => Promise<T>): Promise<T> {
    return life.run(options, async (signal) => {
      try {
        return await work(signal);
      } catch (cause) {
        throw toConnectorError(cause, attempt);
      }
    });
  }

  /** The replies to some commands on the value's own connections. Throws the first error among them. */
  function move(direction: 'gets' | 'puts', key: string, exchange: Exchange, signal: AbortSignal | undefined): Promise<readonly Reply[]> {
    return servers.at(key, signal, async ({ node, isAsking }) => {
      const asked = isAsking ? { ...exchange, commands: [command('ASKING'), ...exchange.commands], replies: exchange.replies + 1 } : exchange;
      const replies = await node[direction].use((connection) => connection.exchange(asked, signal), signal);
      return withoutErrors(replies).slice(asked.replies - exchange.replies);
    });
  }

  /** The reply to a small command about one key. */
  function tell(verb: string, key: string, signal: AbortSignal | undefined): Promise<ControlReply> {
    return servers.at(key, signal, async ({ node, isAsking }: Place) => {
      const sent: ControlCommand[] = isAsking ? [['ASKING'], [verb, key]] : [[verb, key]];
      return withoutErrors(await node.control.send(sent, signal)).at(-1);
    });
  }

  function fits(bytes: number): void {
    if (bytes <= settings.maxValueBytes) return;
    throw new KvError('KV_CONNECTOR_REFUSED', `redis takes no value of ${bytes} bytes: \`maxValueBytes\` is ${settings.maxValueBytes}; store smaller chunks or raise it`);
  }

  function memoryFor(length: number, into: Uint8Array | undefined): Uint8Array {
    fits(length);
    return placeRead(length, into === undefined ? {} : { into }).target;
  }

  async function getWhole(key: string, { into, signal }: Read): Promise<Uint8Array | undefined> {
    const place = (length: number) => memoryFor(length, into);
    const [reply] = await move('gets', key, { commands: [command('GET', key)], replies: 1, place }, signal);
    if (reply === null) return undefined;
    if (!(reply instanceof Uint8Array)) throw new ProtocolError('something else than a value');
    return reply;
  }

  /**
   * GETRANGE alone gives nothing for a missing key, for an empty value and past the end, and does not say which. So it runs with
   * EXISTS and STRLEN in one transaction: a value that is evicted or replaced in between cannot mix them up, and the length of what
   * comes is known before it comes.
   */
  async function getRange(key: string, range: ByteRange, { into, signal }: Read): Promise<Uint8Array | undefined> {
    const [offset, wanted] = [Math.min(range.offset, BEYOND_ANY_VALUE), Math.min(range.length, BEYOND_ANY_VALUE)];
    const parts: Command[] = [command('EXISTS', key), command('STRLEN', key), command('GETRANGE', key, offset, offset + wanted - 1)];
    const place = (length: number, [, total]: readonly unknown[]): Uint8Array => {
      if (typeof total !== 'number' || length !== Math.max(0, Math.min(wanted, total - offset))) throw new ProtocolError('a range of another length than the value has');
      return memoryFor(length, into);
    };
    const replies = await move('gets', key, { commands: [command('MULTI'), ...parts, command('EXEC')], replies: 5, place }, signal);
    const [exists, , bytes] = transactionResult(replies.at(-1));
    if (exists === 0) return undefined;
    if (exists !== 1 || !(bytes instanceof Uint8Array)) throw new ProtocolError('something else than a range of a value');
    return bytes;
  }

  return {
    name,
    supports,

    get: (key: string, options: GetOptions = {}) =>
      run(`get "${key}"`, options, async (signal) => {
        checkKey(key);
        checkRange(options.range);
        const { range } = options;
        const stored = settings.prefix + key;
        const read = { into: options.into, signal };
        if (range === undefined) return getWhole(stored, read);
        // GETRANGE names its last byte, so it cannot ask for none.
        if (range.length === 0) return isOne(await tell('EXISTS', stored, signal)) ? memoryFor(0, options.into) : undefined;
        return getRange(stored, range, read);
      }),

    put: (key: string, value: Uint8Array, options: PutOptions = {}) =>
      run(`put "${key}"`, options, async (signal) => {
        checkKey(key);
        checkPut(value, options, supports.ttl);
        fits(value.byteLength);
        const stored = settings.prefix + key;
        const [reply] = await move('puts', stored, { commands: [setCommand(stored, value, lifetimeOf(options))], replies: 1 }, signal);
        if (reply !== 'OK') throw new ProtocolError('something else than OK');
      }),

    has: (key, options = {}) =>
      run(`look for "${key}"`, options, async (signal) => {
        checkKey(key);
        return isOne(await tell('EXISTS', settings.prefix + key, signal));
      }),

    delete: (key, options = {}) =>
      run(`delete "${key}"`, options, async (signal) => {
        checkKey(key);
        return isOne(await tell('UNLINK', settings.prefix + key, signal));
      }),

    async *list(prefix, options = {}): AsyncGenerator<ListedValue> {
      // Each step is a call of its own, so that a caller who stops half way does not keep close() waiting.
      const step = <T>(work: (signal: AbortSignal | undefined) => Promise<T>) => run(`list "${prefix}"`, options, work);
      const nodes = await step(async (signal) => {
        checkPrefix(prefix);
        return servers.all(signal);
      });
      const seen = new Set<string>(); // a scan may give a key twice
      for (const node of nodes) {
        let cursor: string | undefined = '0';
        while (cursor !== undefined) {
          const page = await step((signal) => keysOf(node.control, { prefix: settings.prefix + prefix, cursor: cursor ?? '0' }, signal));
          for (const { key, bytes } of page.values) {
            if (seen.has(key)) continue;
            seen.add(key);
            options.signal?.throwIfAborted();
            yield { key: key.slice(settings.prefix.length), bytes };
          }
          cursor = page.next;
        }
      }
    },

    async close() {
      await life.close();
      servers.close();
    },
  };
}

interface Read {
  readonly into: Uint8Array | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Undefined where a value is kept: what is not exact as a number is beyond what the server can count to. */
function lifetimeOf({ ttlMs }: PutOptions): number | undefined {
  return ttlMs === undefined || ttlMs > Number.MAX_SAFE_INTEGER ? undefined : Math.ceil(ttlMs);
}

/** A number of bytes; those beyond Redis' own integers would be refused. */
const BEYOND_ANY_VALUE = 2 ** 40;

function withoutErrors<T>(replies: readonly T[]): readonly T[] {
  for (const reply of replies) if (reply instanceof ReplyError) throw reply;
  return replies;
}

function transactionResult(reply: Reply | undefined): readonly unknown[] {
  if (!Array.isArray(reply)) throw new ProtocolError('something else than the result of a transaction');
  return withoutErrors(reply);
}

function isOne(reply: ControlReply): boolean {
  if (reply !== 0 && reply !== 1) throw new ProtocolError('something else than a count of one key');
  return reply === 1;
}
