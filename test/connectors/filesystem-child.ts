// The process that filesystem.test.ts starts, limits and kills. Prints what became of one verb as one line of JSON.
//
//   filesystem-child.mjs '{"path":"...","verb":"put","key":"...","bytes":100,"fill":7,"times":1,"durable":false}'
import { openSync } from 'node:fs';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { KvError } from '../../lib/errors.js';

export interface ChildTask {
  readonly path: string;
  readonly verb: 'put' | 'get' | 'get-without-descriptors' | 'has' | 'delete' | 'list';
  readonly key: string;
  /** For put: a value of this many bytes, each equal to `fill`. */
  readonly bytes?: number;
  readonly fill?: number;
  readonly times?: number;
  readonly ttlMs?: number;
  readonly durable?: boolean;
  /** Aborts the verb after this time. */
  readonly abortAfterMs?: number;
}

export interface ChildOutcome {
  /** Set if the verb rejected. */
  readonly code?: string;
  readonly message?: string;
  /** For get: length of the value and its bytes' one value, if it had one. */
  readonly bytes?: number;
  readonly fill?: number;
  /** Set if the verb was aborted: milliseconds until it settled. */
  readonly abortedAfterMs?: number;
}

async function perform(task: ChildTask): Promise<ChildOutcome> {
  const connector = filesystem({ path: task.path, durable: task.durable ?? false });
  const options = task.abortAfterMs === undefined ? {} : { signal: AbortSignal.timeout(task.abortAfterMs) };
  if (task.verb === 'put') {
    const value = new Uint8Array(task.bytes ?? 0).fill(task.fill ?? 0);
    for (let i = 0; i < (task.times ?? 1); i++) await connector.put(task.key, value, { ...options, ...(task.ttlMs !== undefined && { ttlMs: task.ttlMs }) });
    return {};
  }
  if (task.verb === 'delete' || task.verb === 'has') {
    await connector[task.verb](task.key, options);
    return {};
  }
  if (task.verb === 'list') {
    for await (const _ of connector.list(task.key, options));
    return {};
  }
  if (task.verb === 'get-without-descriptors') useUpDescriptors();
  const value = await connector.get(task.key, options);
  const fill = value?.[0];
  return {
    ...(value !== undefined && { bytes: value.byteLength }),
    ...(fill !== undefined && value?.every((byte) => byte === fill) === true && { fill }),
  };
}

function useUpDescriptors(): void {
  try {
    for (;;) openSync('/dev/null', 'r');
  } catch {
    // That was the last one: what the caller wants to see.
  }
}

async function outcomeOf(task: ChildTask): Promise<ChildOutcome> {
  const start = performance.now();
  try {
    return await perform(task);
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === 'TimeoutError') return { abortedAfterMs: performance.now() - start };
    if (cause instanceof KvError) return { code: cause.code, message: cause.message };
    throw cause;
  }
}

console.log(JSON.stringify(await outcomeOf(JSON.parse(process.argv[2] ?? '') as ChildTask)));
