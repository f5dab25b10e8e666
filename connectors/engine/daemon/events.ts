/** Why a chunk that was asked for is not given. `damaged`: an object was there that could not be trusted. */
export type MissCause = 'absent' | 'other_length' | 'damaged';

/** A verb of the daemon, as metrics and logs name it. */
export type Verb = 'lookup' | 'exists' | 'fetch' | 'store' | 'prefetch' | 'delete';

/**
 * What the daemon tells of its work: plain calls, made where the thing happened, on the thread that serves. An observer returns at once and
 * does not throw. This is the one seam for metrics, logs and the live page: pass a `Partial<DaemonEvents>` to `startDaemon({ observers })`.
 * `space` is the digest of the space; its model and quality are in `Daemon.core.spaces.describe(digest)`.
 */
export interface DaemonEvents {
  /** A lookup or exists was answered. `unknown` of its hashes were answered with `?`. */
  lookup(event: { readonly space: string; readonly asked: number; readonly hits: number; readonly unknown: number; readonly ms: number }): void;
  /** A chunk, or some layers of it, was fetched. `storedBytes` were read of its object. */
  hit(event: { readonly space: string; readonly rawBytes: number; readonly storedBytes: number; readonly ms: number }): void;
  /** A chunk was asked for and is not there, or is no use. */
  miss(event: { readonly space: string; readonly cause: MissCause; readonly ms: number }): void;
  /** A chunk is stored. `wasPresent`: it was there already, nothing was coded, and `storedBytes` is 0. */
  stored(event: { readonly space: string; readonly rawBytes: number; readonly storedBytes: number; readonly wasPresent: boolean; readonly ms: number }): void;
  /** A chunk could not be fetched or stored (or a background look failed), for a reason that is no miss. */
  failed(event: { readonly space: string; readonly verb: Verb; readonly code: string; readonly message: string; readonly ms: number }): void;
  /** A request was answered, or broken off (status 499). `route` is its path as in the table of routes. */
  request(event: { readonly method: string; readonly route: string; readonly status: number; readonly ms: number }): void;
  /** Something that is no answer to anybody and that the operator should read. */
  notice(event: { readonly level: 'info' | 'warn' | 'error'; readonly message: string }): void;
}

/** One observer that tells several. */
export function allOf(observers: readonly Partial<DaemonEvents>[]): DaemonEvents {
  return {
    lookup: (event) => observers.forEach((observer) => observer.lookup?.(event)),
    hit: (event) => observers.forEach((observer) => observer.hit?.(event)),
    miss: (event) => observers.forEach((observer) => observer.miss?.(event)),
    stored: (event) => observers.forEach((observer) => observer.stored?.(event)),
    failed: (event) => observers.forEach((observer) => observer.failed?.(event)),
    request: (event) => observers.forEach((observer) => observer.request?.(event)),
    notice: (event) => observers.forEach((observer) => observer.notice?.(event)),
  };
}
