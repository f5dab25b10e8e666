// Small commands of one server: many calls at once share one ioredis client, whose connection is made at the first of them. It is
// never left to reconnect by itself: the next call makes a new one, so a server that is back is used at once.
import { Redis } from 'ioredis';
import { abortable } from '../abortable.js';
import { LostConnection } from '../lost-connection.js';
import { ReplyError } from './reply-parser.js';
import type { Access, Address } from './settings.js';

/** What a command gave: ioredis' types of RESP2. */
export type ControlReply = unknown;

/** A command and its arguments. */
export type ControlCommand = readonly [string, ...(string | number)[]];

interface Client {
  readonly ready: Promise<Redis>;
  redis: Redis | undefined;
  calls: number;
}

export class ControlClient {
  readonly #address: Address;
  readonly #access: Access;
  #current: Client | undefined;

  constructor(address: Address, access: Access) {
    this.#address = address;
    this.#access = access;
  }

  /** Sends the commands together and gives their replies, each of which may be a ReplyError. Rejects with a LostConnection or the signal's reason. */
  async send(commands: readonly ControlCommand[], signal: AbortSignal | undefined): Promise<readonly ControlReply[]> {
    signal?.throwIfAborted();
    if (this.#current?.redis?.status === 'end') this.#current = undefined; // the server closed it meanwhile
    const isKept = this.#current?.redis?.status === 'ready';
    try {
      return await this.#sendOnce(commands, signal);
    } catch (cause) {
      // As ConnectionPool does: a kept connection of a server that was restarted.
      if (!isKept || !(cause instanceof LostConnection)) throw cause;
      return await this.#sendOnce(commands, signal);
    }
  }

  /** To be called when no call runs. */
  close(): void {
    if (this.#current !== undefined) this.#end(this.#current);
    this.#current = undefined;
  }

  async #sendOnce(commands: readonly ControlCommand[], signal: AbortSignal | undefined): Promise<readonly ControlReply[]> {
    const client = (this.#current ??= this.#make());
    client.calls++;
    try {
      return await abortable(this.#exchange(client, commands), signal);
    } catch (cause) {
      // Perhaps nothing will ever come on it again: the calls after this one go over a new connection, those on it may finish.
      if (this.#current === client && !(cause instanceof ReplyError)) this.#current = undefined;
      throw cause;
    } finally {
      client.calls--;
      if (client.calls === 0 && this.#current !== client) this.#end(client);
    }
  }

  async #exchange(client: Client, commands: readonly ControlCommand[]): Promise<readonly ControlReply[]> {
    const redis = await client.ready;
    return Promise.all(
      commands.map(async ([name, ...args]) => {
        try {
          return await redis.call(name, args);
        } catch (cause) {
          return asReply(cause);
        }
      }),
    );
  }

  #make(): Client {
    const client: Client = { ready: this.#connect((redis) => (client.redis = redis)), redis: undefined, calls: 0 };
    return client;
  }

  async #connect(onMade: (redis: Redis) => void): Promise<Redis> {
    const credentials = await this.#access.credentials();
    const where = 'socketPath' in this.#address ? { path: this.#address.socketPath } : { ...this.#address };
    const tls = this.#access.tls === undefined ? {} : { tls: { ...this.#access.tls } };
    const redis = new Redis({
      ...where,
      ...tls,
      ...credentials,
      protocol: 2,
      lazyConnect: true,
      connectTimeout: 0, // each call has its own limit
      retryStrategy: () => null,
      autoResendUnfulfilledCommands: false,
      enableReadyCheck: false, // a server that loads its data says so to any command
      disableClientInfo: true,
    });
    let lastError: unknown;
    redis.on('error', (cause) => (lastError = cause));
    onMade(redis);
    try {
      await redis.connect();
      // Not by ioredis' `db`: it goes on in database 0 where this is refused.
      if (this.#access.database !== 0) await redis.select(this.#access.database);
      return redis;
    } catch (cause) {
      end(redis);
      const reply = asReplyOrUndefined(cause) ?? asReplyOrUndefined(lastError);
      throw reply ?? lost(lastError ?? cause);
    }
  }

  #end(client: Client): void {
    if (client.redis !== undefined) end(client.redis);
    void client.ready.then(end, () => undefined); // where it waits for the password still
  }
}

function end(redis: Redis): void {
  redis.disconnect();
  redis.stream?.destroy(); // disconnect() waits for a server that does not answer
}

function asReply(cause: unknown): ReplyError {
  const reply = asReplyOrUndefined(cause);
  if (reply !== undefined) return reply;
  throw lost(cause);
}

/** ioredis keeps the command with its error, so a password too: none of its own errors travels on. */
function asReplyOrUndefined(cause: unknown): ReplyError | undefined {
  return cause instanceof Error && cause.name === 'ReplyError' ? new ReplyError(cause.message) : undefined;
}

function lost(cause: unknown): LostConnection {
  const isOfSocket = cause instanceof Error && 'code' in cause && !('command' in cause);
  return new LostConnection(isOfSocket ? cause : undefined, false);
}
