// A session as it lies in a storage: its manifest, and the chunks that follow from it.
import { KvError } from '../../../lib/errors.js';
import type { CallOptions } from '../../../lib/store/connector.js';
import { planChunks, type PlannedChunk } from './chunk-plan.js';
import { OPAQUE_CHUNK_ROWS, opaqueState } from './opaque-state.js';
import type { SessionPlace } from './options.js';
import { chunkKey, manifestKey, prefixHashesOf, type ChunkIdentity } from './session-chunks.js';
import { unpackSession, type SessionManifest } from './session-manifest.js';
import { parseFrame, type LlamaState } from './state.js';

/** A chunk of a stored session. */
export interface StoredChunk extends ChunkIdentity {
  readonly key: string;
  readonly objectBytes: number;
}

/** A session whose parts fit together. */
export interface StoredSession {
  readonly manifest: SessionManifest;
  readonly state: LlamaState;
  readonly chunks: readonly StoredChunk[];
  readonly manifestBytes: number;
}

/**
 * The session of that name, undefined if there is none. Nothing of its chunks is read. Rejects with KV_CORRUPT_OBJECT, KV_UNSUPPORTED,
 * KV_UNSUPPORTED_VERSION, and as the connector does.
 */
export async function readSession({ connector, name }: SessionPlace, call: CallOptions): Promise<StoredSession | undefined> {
  const bytes = await connector.get(manifestKey(name), call);
  if (bytes === undefined) return undefined;
  const manifest = unpackSession(bytes);
  if (manifest.name !== name) throw damaged(`it is that of ${manifest.name}`);
  const { state, plan } = stateOf(manifest);
  if (plan.length !== manifest.chunks.length) throw damaged(`it lists ${manifest.chunks.length} chunks where its state has ${plan.length}`);
  const hashes = prefixHashesOf(state.tokens, plan);
  const chunks = plan.map((chunk, i) => {
    const { digest, objectBytes } = manifest.chunks[i] ?? { digest: new Uint8Array(0), objectBytes: 0 };
    const identity = { chunk, prefixHash: hashes[i] ?? '', digest, rung: manifest.rung };
    return { ...identity, key: chunkKey(name, identity), objectBytes };
  });
  return { manifest, state, chunks, manifestBytes: bytes.length };
}

function stateOf({ frame, stateBytes, isUnderstood, chunkTokens }: SessionManifest): { readonly state: LlamaState; readonly plan: readonly PlannedChunk[] } {
  const state = isUnderstood ? parseFrame(frame, stateBytes) : opaqueState(frame, stateBytes);
  const plan = planChunks(state, isUnderstood ? chunkTokens : OPAQUE_CHUNK_ROWS);
  if (typeof plan === 'string') throw damaged(plan);
  return { state, plan };
}

function damaged(finding: string): KvError {
  return new KvError('KV_CORRUPT_OBJECT', `the manifest of the session is damaged: ${finding}`);
}
