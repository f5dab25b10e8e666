import { KvError } from '../../../lib/errors.js';
import { inParallel } from '../../../lib/store/maintenance/in-parallel.js';
import type { CallOptions } from '../../../lib/store/connector.js';
import { checkFingerprint, fingerprintOf } from './fingerprint.js';
import { checkLoadOptions, type LoadSessionOptions } from './options.js';
import { writeAll, writeRows } from './rows.js';
import type { LlamaSequence } from './sequence.js';
import { fetchChunk } from './session-chunks.js';
import { withStateFile, type StateFile } from './state-file.js';
import { readSession, type StoredSession } from './stored-session.js';

/** What was loaded. */
export interface LoadedSession {
  readonly tokens: number;
  /** Bytes of the state that llama.cpp was given. */
  readonly stateBytes: number;
  /** Rung of the chunks: `exact` where the state is the one that was saved, bit by bit. */
  readonly rung: string;
  /** Text that was stored with the session. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** Chunks under way at once. */
const CONCURRENCY = 4;

/**
 * Puts a saved session into a sequence in place of what that holds; undefined if there is none of that name. Everything is read and verified
 * before llama.cpp sees any of it, so whatever is refused leaves the sequence as it was.
 *
 * Throws a TypeError or RangeError for an option that cannot be. Rejects with KV_GEOMETRY_MISMATCH (another model, or a context that is not as it was; the
 * message says in what), KV_CORRUPT_OBJECT (damaged, or a chunk is gone), KV_UNSUPPORTED, KV_UNSUPPORTED_VERSION, a system error of the model file or the
 * temporary file, the signal's reason, and as the connector does.
 */
export async function loadSession(sequence: LlamaSequence, options: LoadSessionOptions): Promise<LoadedSession | undefined> {
  checkLoadOptions(sequence, options);
  const call = options.signal ? { signal: options.signal } : {};
  const session = await readSession(options, call);
  if (session === undefined) return undefined;
  const { fingerprint, tokens, stateBytes, rung, metadata } = session.manifest;
  checkFingerprint(fingerprint, await fingerprintOf(sequence, options, options.signal));
  if (tokens > sequence.contextSize) throw new KvError('KV_GEOMETRY_MISMATCH', `the session has ${tokens} tokens and the context room for ${sequence.contextSize}; make a larger one`);

  await withStateFile(stateBytes, async (file) => {
    await writeState(file, session, options, call);
    call.signal?.throwIfAborted();
    await handOver(sequence, file);
  });
  return { tokens, stateBytes, rung, metadata };
}

async function writeState(file: StateFile, { state, chunks }: StoredSession, { connector }: LoadSessionOptions, call: CallOptions): Promise<void> {
  let at = 0;
  for (const { offset, length } of state.frameSpans) {
    await writeAll(file.handle, state.frame.subarray(at, at + length), offset);
    at += length;
  }
  const written = inParallel(chunks, CONCURRENCY, async (stored) => writeRows(file.handle, stored.chunk, await fetchChunk(connector, stored.key, stored, call)));
  for await (const _ of written) call.signal?.throwIfAborted();
}

/** llama.cpp drops what a sequence holds before it looks at the new state, so that is kept until it has taken it. */
async function handOver(sequence: LlamaSequence, file: StateFile): Promise<void> {
  if (sequence.nextTokenIndex === 0) return load(sequence, file);
  await withStateFile(sequence.context.stateSize, async (own) => {
    await sequence.saveStateToFile(own.path);
    try {
      await load(sequence, file);
    } catch (error) {
      await sequence.loadStateFromFile(own.path, { acceptRisk: true });
      throw error;
    }
  });
}

async function load(sequence: LlamaSequence, file: StateFile): Promise<void> {
  try {
    await sequence.loadStateFromFile(file.path, { acceptRisk: true });
  } catch (cause) {
    throw new KvError('KV_GEOMETRY_MISMATCH', 'llama.cpp does not take the state of the session into this context; make the context as it was when the session was saved', { cause });
  }
}
