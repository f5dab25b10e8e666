import { LostConnection } from './lost-connection.js';

/** A connection that serves one call at a time. */
export interface PooledConnection {
  /** Whether another call may use it. */
  readonly isUsable: boolean;
  destroy(): void;
}

/** Some connections of one server, made when they are needed and kept. */
export class ConnectionPool<Connection extends PooledConnection> {
  readonly #open: (signal: AbortSignal | undefined) => Promise<Connection>;
  readonly #idle: Connection[] = [];
  readonly #waiting: (() => void)[] = [];
  #free: number;
  #isClosed = false;

  constructor(size: number, open: (signal: AbortSignal | undefined) => Promise<Connection>) {
    this.#free = size;
    this.#open = open;
  }

  /**
   * Runs `work` on a connection of its own. Where a kept connection turns out to be lost, as after a restart of the server, `work`
   * runs once more on a new one: whatever goes over a pool may be sent twice.
   */
  async use<T>(work: (connection: Connection) => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    await this.#takeTurn(signal);
    try {
      const kept = this.#takeIdle();
      if (kept === undefined) return await this.#run(await this.#open(signal), work);
      try {
        return await this.#run(kept, work);
      } catch (cause) {
        if (!(cause instanceof LostConnection) || cause.hadAnswer) throw cause;
        return await this.#run(await this.#open(signal), work);
      }
    } finally {
      this.#giveTurn();
    }
  }

  /** Ends the kept connections now, and the others after their call. */
  close(): void {
    this.#isClosed = true;
    for (const connection of this.#idle.splice(0)) connection.destroy();
  }

  async #run<T>(connection: Connection, work: (connection: Connection) => Promise<T>): Promise<T> {
    try {
      return await work(connection);
    } finally {
      if (this.#isClosed) connection.destroy();
      else if (connection.isUsable) this.#idle.push(connection);
    }
  }

  #takeIdle(): Connection | undefined {
    for (;;) {
      const connection = this.#idle.pop();
      if (connection === undefined || connection.isUsable) return connection;
    }
  }

  async #takeTurn(signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    if (this.#free > 0) return void this.#free--;
    await new Promise<void>((resolve, reject) => {
      const onTurn = (): void => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(onTurn), 1);
        reject(signal?.reason);
      };
      this.#waiting.push(onTurn);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** To the one who waits longest, if any. */
  #giveTurn(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free++;
    else next();
  }
}
