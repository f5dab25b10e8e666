import type { BulkConnection } from './bulk-connection.js';
import { LostConnection } from './lost-connection.js';

/** Some connections of one server for one direction, made when they are needed and kept. */
export class BulkPool {
  readonly #open: (signal: AbortSignal | undefined) => Promise<BulkConnection>;
  readonly #idle: BulkConnection[] = [];
  readonly #waiting: (() => void)[] = [];
  #free: number;
  #isClosed = false;

  constructor(size: number, open: (signal: AbortSignal | undefined) => Promise<BulkConnection>) {
    this.#free = size;
    this.#open = open;
  }

  /**
   * Runs `work` on a connection of its own. Where a kept connection turns out to be lost, as after a restart of the server, `work`
   * runs once more on a new one: every command of ours may be sent twice.
   */
  async use<T>(work: (connection: BulkConnection) => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
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

  async #run<T>(connection: BulkConnection, work: (connection: BulkConnection) => Promise<T>): Promise<T> {
    try {
      return await work(connection);
    } finally {
      if (this.#isClosed) connection.destroy();
      else if (connection.isUsable) this.#idle.push(connection);
    }
  }

  #takeIdle(): BulkConnection | undefined {
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
