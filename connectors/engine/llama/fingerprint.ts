// What has to be the same for a state to be loaded: llama.cpp itself checks little of it, and may end the process over the rest.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { basename } from 'node:path';
import { KvError } from '../../../lib/errors.js';
import type { LlamaSequence } from './sequence.js';

/** What a state was computed with. All but `model` is worth telling in an error. */
export interface Fingerprint {
  /** SHA-256 of the model file, in hex. */
  readonly model: string;
  /** Name of the adapters that the context runs with; empty for none. */
  readonly adapter: string;
  /** Repository and release of llama.cpp. */
  readonly llamaCpp: string;
  /** Numbers of ggml's element types. */
  readonly keyType: number;
  readonly valueType: number;
  readonly flashAttention: string;
  /** Sequences of the context, which the state counts. */
  readonly sequences: number;
  /** Whether the context is longer than the model was first trained for: some models turn K differently then. */
  readonly isStretched: boolean;
}

/** How the model of a sequence is told from others. */
export interface ModelIdentity {
  /** The file that the sequence's model was loaded from; of a model in parts the first. */
  readonly modelPath: string;
  /** SHA-256 of the model file in hex, if you know it. Default: computed, once for each loaded model; a second for some 2 GB. */
  readonly modelDigest?: string;
  /** Name of the LoRA adapters and their scales, if the context has any. Sessions with one name are taken to be of the same. Default: none. */
  readonly adapter?: string;
}

const PART = /-(\d{5})-of-(\d{5})\.gguf$/;
const READ_BYTES = 1 << 20;

// Kept by model object, so that it goes with the model: a file that is in use by one does not change.
const digests = new WeakMap<object, string>();

/** The fingerprint of states of this sequence. Rejects with a system error if the model file cannot be read, or the signal's reason. */
export async function fingerprintOf(sequence: LlamaSequence, identity: ModelIdentity, signal: AbortSignal | undefined): Promise<Fingerprint> {
  const { context, model } = sequence;
  const { repo, release } = model.llama.llamaCppRelease;
  return {
    model: identity.modelDigest ?? (await digestOf(model, identity.modelPath, signal)),
    adapter: identity.adapter ?? '',
    llamaCpp: `${repo} ${release}`,
    keyType: context.kvCacheKeyType,
    valueType: context.kvCacheValueType,
    flashAttention: String(context.flashAttention),
    sequences: context.totalSequences,
    isStretched: sequence.contextSize > trainedContext(model.fileInfo.architectureMetadata),
  };
}

/** Throws KV_GEOMETRY_MISMATCH that says in what the session differs from the sequence. */
export function checkFingerprint(saved: Fingerprint, own: Fingerprint): void {
  if (saved.model !== own.model) throw new KvError('KV_GEOMETRY_MISMATCH', `the session was saved with another model file (SHA-256 ${saved.model.slice(0, 16)}…, here ${own.model.slice(0, 16)}…)`);
  const differs = (Object.keys(own) as (keyof Fingerprint)[]).filter((field) => saved[field] !== own[field]);
  if (differs.length === 0) return;
  const list = differs.map((field) => `${field} ${JSON.stringify(saved[field])}, here ${JSON.stringify(own[field])}`).join('; ');
  throw new KvError('KV_GEOMETRY_MISMATCH', `the session was saved with ${list}; make the context as it was then, or evaluate the prompt again and save`);
}

async function digestOf(model: object, path: string, signal: AbortSignal | undefined): Promise<string> {
  const digest = digests.get(model) ?? (await hashFiles(partsOf(path), signal));
  digests.set(model, digest);
  return digest;
}

// All of the file, not samples of it: two models of one family can differ in a few tensors only, and a state of the wrong one loads without a word.
async function hashFiles(paths: readonly string[], signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash('sha256');
  for (const path of paths) {
    for await (const bytes of createReadStream(path, { highWaterMark: READ_BYTES })) {
      signal?.throwIfAborted();
      hash.update(bytes as Buffer);
    }
  }
  return hash.digest('hex');
}

function partsOf(path: string): string[] {
  const [, , count] = PART.exec(basename(path)) ?? [];
  if (count === undefined) return [path];
  return Array.from({ length: Number(count) }, (_, i) => path.replace(PART, `-${String(i + 1).padStart(5, '0')}-of-${count}.gguf`));
}

function trainedContext(metadata: object): number {
  const scaling = fieldOf(fieldOf(metadata, 'rope'), 'scaling');
  const length = fieldOf(scaling, 'original_context_length');
  return typeof length === 'number' ? length : Infinity;
}

function fieldOf(value: unknown, field: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[field] : undefined;
}
