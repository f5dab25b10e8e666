import { rungOf, EXACT } from '../../../lib/codec/rungs.js';
import { KvError } from '../../../lib/errors.js';
import type { CallOptions } from '../../../lib/store/connector.js';
import { inParallel } from '../../../lib/store/maintenance/in-parallel.js';
import { planChunks, type PlannedChunk } from './chunk-plan.js';
import { fingerprintOf } from './fingerprint.js';
import { OPAQUE_CHUNK_ROWS, opaqueOf, understoodOrOpaque } from './opaque-state.js';
import { checkSaveOptions, SESSION_DEFAULTS, type SaveSessionOptions } from './options.js';
import { readRows } from './rows.js';
import type { LlamaSequence } from './sequence.js';
import { chunkKey, manifestKey, prefixHashesOf, putChunk, type ChunkIdentity } from './session-chunks.js';
import { packSession, sha256 } from './session-manifest.js';
import { withStateFile, type StateFile } from './state-file.js';
import type { LlamaState, StateSource } from './state.js';
import { readSession, type StoredChunk, type StoredSession } from './stored-session.js';

/** What a save did. */
export interface SavedSession {
  readonly tokens: number;
  /** Bytes of the state as llama.cpp wrote it. */
  readonly stateBytes: number;
  /** Bytes of the session in the storage. */
  readonly storedBytes: number;
  readonly chunks: number;
  /** Chunks that were not stored yet. */
  readonly newChunks: number;
  /** Bytes that were put, the manifest among them. */
  readonly newBytes: number;
  /** Why the state is kept as plain bytes, all of them anew at each save; undefined where its rows are understood. */
  readonly notUnderstood?: string;
}

/** Chunks under way at once: one is coded while another is on its way. Each holds its rows twice. */
const CONCURRENCY = 2;

/**
 * Stores the state of a sequence, or, of a name that was saved before, what is new in it. The chunks go first and the manifest last, so a
 * save that breaks off leaves the session as it was. Memory and temporary files: about one state, and some chunks.
 *
 * Throws a TypeError or RangeError for what cannot be saved. Rejects with KV_UNSUPPORTED (a lossy quality of a state that is not understood, or a
 * session of a newer kvreel under this name), KV_NO_SPACE, a system error of the model file or the temporary file, the signal's reason, and as
 * node-llama-cpp, `encode` and the connector do.
 */
export async function saveSession(sequence: LlamaSequence, options: SaveSessionOptions): Promise<SavedSession> {
  checkSaveOptions(sequence, options);
  const { connector, name, chunkTokens = SESSION_DEFAULTS.chunkTokens, metadata = {} } = options;
  const rung = rungOf(options.quality ?? SESSION_DEFAULTS.quality).name;
  const call = options.signal ? { signal: options.signal } : {};
  const fingerprint = await fingerprintOf(sequence, options, options.signal);
  const before = await earlierSession(options, call);

  return withStateFile(sequence.context.stateSize, async (file) => {
    const { fileSize } = await sequence.saveStateToFile(file.path);
    const { state, plan, notUnderstood } = cut({ bytes: fileSize, read: file.read }, chunkTokens);
    if (notUnderstood !== undefined && rung !== EXACT.name) throw new KvError('KV_UNSUPPORTED', `expected quality exact: ${notUnderstood}`);
    const tokens = notUnderstood === undefined ? state.tokens.length : sequence.nextTokenIndex;

    const { chunks, newChunks, newBytes } = await storeChunks({ file, state, plan, rung, before }, options, call);
    const manifest = packSession({ name, fingerprint, rung, tokens, stateBytes: fileSize, isUnderstood: notUnderstood === undefined, frame: state.frame, chunkTokens, chunks, metadata });
    await connector.put(manifestKey(name), manifest, call);
    await deleteUnused(before, chunks, options);

    const chunkBytes = chunks.reduce((sum, { objectBytes }) => sum + objectBytes, 0);
    return {
      tokens,
      stateBytes: fileSize,
      storedBytes: chunkBytes + manifest.length,
      chunks: chunks.length,
      newChunks,
      newBytes: newBytes + manifest.length,
      ...(notUnderstood !== undefined && { notUnderstood }),
    };
  });
}

/** What is stored under the name by now. A damaged manifest counts as none: it is replaced. */
async function earlierSession(options: SaveSessionOptions, call: CallOptions): Promise<StoredSession | undefined> {
  try {
    return await readSession(options, call);
  } catch (error) {
    if (error instanceof KvError && error.code === 'KV_CORRUPT_OBJECT') return undefined;
    throw error;
  }
}

function cut(source: StateSource, chunkTokens: number): { readonly state: LlamaState; readonly plan: readonly PlannedChunk[]; readonly notUnderstood?: string } {
  const { state, notUnderstood } = understoodOrOpaque(source);
  const plan = planChunks(state, notUnderstood === undefined ? chunkTokens : OPAQUE_CHUNK_ROWS);
  if (typeof plan !== 'string') return { state, plan, ...(notUnderstood !== undefined && { notUnderstood }) };
  const opaque = opaqueOf(source);
  const rows = planChunks(opaque, OPAQUE_CHUNK_ROWS);
  if (typeof rows === 'string') throw new KvError('KV_UNSUPPORTED', rows);
  return { state: opaque, plan: rows, notUnderstood: `the state of llama.cpp is not understood: ${plan}` };
}

interface ChunkWork {
  readonly file: StateFile;
  readonly state: LlamaState;
  readonly plan: readonly PlannedChunk[];
  readonly rung: string;
  readonly before: StoredSession | undefined;
}

async function storeChunks({ file, state, plan, rung, before }: ChunkWork, options: SaveSessionOptions, call: CallOptions): Promise<{ readonly chunks: readonly StoredChunk[]; readonly newChunks: number; readonly newBytes: number }> {
  const hashes = prefixHashesOf(state.tokens, plan);
  const stored = new Map(before?.chunks.map((chunk) => [chunk.key, chunk.objectBytes]));
  const chunks: StoredChunk[] = [];
  let [newChunks, newBytes] = [0, 0];

  async function store(index: number, chunk: PlannedChunk): Promise<StoredChunk> {
    call.signal?.throwIfAborted();
    const rows = await readRows(file.handle, chunk);
    const identity: ChunkIdentity = { chunk, prefixHash: hashes[index] ?? '', digest: sha256(rows), rung };
    const key = chunkKey(options.name, identity);
    const known = stored.get(key);
    // Asked, not believed: a bounded storage may have let go of it.
    if (known !== undefined && (await options.connector.has(key, call))) return { ...identity, key, objectBytes: known };
    const objectBytes = await putChunk(options.connector, key, identity, rows, call);
    newChunks++;
    newBytes += objectBytes;
    return { ...identity, key, objectBytes };
  }

  for await (const chunk of inParallel(plan.entries(), CONCURRENCY, ([index, chunk]) => store(index, chunk))) chunks.push(chunk);
  return { chunks, newChunks, newBytes };
}

// The tail of the earlier turn, which grew. What cannot be deleted now is no harm: `deleteSession` finds it by its prefix.
async function deleteUnused(before: StoredSession | undefined, chunks: readonly StoredChunk[], { connector }: SaveSessionOptions): Promise<void> {
  const used = new Set(chunks.map(({ key }) => key));
  const unused = before?.chunks.filter(({ key }) => !used.has(key)) ?? [];
  await Promise.allSettled(unused.map(({ key }) => connector.delete(key)));
}
