import { basename } from 'node:path';
import { rungOf } from '../../../lib/codec/rungs.js';
import { refuseUnknown } from '../../../lib/options.js';
import type { CallOptions, StorageConnector } from '../../../lib/store/connector.js';
import type { ModelIdentity } from './fingerprint.js';
import type { LlamaSequence } from './sequence.js';

/** Where a session is kept. One writer at a time: of two that save under one name, the later one stays and the other's may be lost. */
export interface SessionPlace extends CallOptions {
  /** Any storage connector, wrapped in `encrypted` if others can read the storage. Not closed. */
  readonly connector: StorageConnector;
  /** 1 to 128 printable ASCII characters without space and `/`. Stands in the storage's keys, readable. */
  readonly name: string;
}

/** Options of `loadSession`. */
export interface LoadSessionOptions extends SessionPlace, ModelIdentity {}

/** Options of `saveSession`. */
export interface SaveSessionOptions extends LoadSessionOptions {
  /** `exact`, `near`, `lossy` or a rung's own name. Anything but `exact` gives up that the state comes back bit by bit. Default `exact`. */
  readonly quality?: string;
  /** Tokens of one stored chunk, 16 to 65,536. Fewer make a turn's rewritten tail shorter, more cost less overhead. Default 256. */
  readonly chunkTokens?: number;
  /** Text to store with the session and give back, such as the history of a chat. */
  readonly metadata?: Readonly<Record<string, string>>;
}

export const SESSION_DEFAULTS = { quality: 'exact', chunkTokens: 256 } as const;

const NAME = /^[!-.0-~]{1,128}$/;
const DIGEST = /^[0-9a-f]{64}$/;
const PLACE_FIELDS = ['connector', 'name', 'signal'];
const LOAD_FIELDS = [...PLACE_FIELDS, 'modelPath', 'modelDigest', 'adapter'];
const KNOWN = {
  place: new Set(PLACE_FIELDS),
  load: new Set(LOAD_FIELDS),
  save: new Set([...LOAD_FIELDS, 'quality', 'chunkTokens', 'metadata']),
};

/** Throws a TypeError or RangeError for the first option that cannot be. */
export function checkPlace(options: SessionPlace, known: ReadonlySet<string> = KNOWN.place): void {
  refuseUnknown(options, known);
  if (typeof options.connector?.get !== 'function') throw new TypeError('expected `connector` to be a storage connector');
  if (typeof options.name !== 'string' || !NAME.test(options.name)) {
    throw new TypeError(`expected \`name\` to be 1 to 128 printable ASCII characters without space and /, got ${JSON.stringify(options.name)}`);
  }
}

/** Throws a TypeError or RangeError for the first option of `loadSession` that cannot be. */
export function checkLoadOptions(sequence: LlamaSequence, options: LoadSessionOptions, known: ReadonlySet<string> = KNOWN.load): void {
  if (typeof sequence?.saveStateToFile !== 'function') throw new TypeError('expected `sequence` to be a context sequence of node-llama-cpp');
  checkPlace(options, known);
  const { modelPath, modelDigest, adapter } = options;
  if (typeof modelPath !== 'string') throw new TypeError(`expected \`modelPath\` to be the path of the model file, got ${typeof modelPath}`);
  const { filename } = sequence.model;
  if (filename !== undefined && basename(modelPath) !== filename) throw new TypeError(`expected \`modelPath\` to be the file that the model was loaded from (${filename}), got ${basename(modelPath)}`);
  if (modelDigest !== undefined && !DIGEST.test(modelDigest)) throw new TypeError('expected `modelDigest` to be a SHA-256 as 64 lower-case hex digits');
  if (adapter !== undefined && typeof adapter !== 'string') throw new TypeError(`expected \`adapter\` to be a string, got ${typeof adapter}`);
}

/** Throws a TypeError or RangeError for the first option of `saveSession` that cannot be. */
export function checkSaveOptions(sequence: LlamaSequence, options: SaveSessionOptions): void {
  checkLoadOptions(sequence, options, KNOWN.save);
  const { quality, chunkTokens, metadata } = options;
  if (quality !== undefined) rungOf(quality);
  if (chunkTokens !== undefined && !(Number.isInteger(chunkTokens) && chunkTokens >= 16 && chunkTokens <= 65536)) {
    throw new RangeError(`expected \`chunkTokens\` to be an integer from 16 to 65536, got ${chunkTokens}`);
  }
  for (const [field, text] of Object.entries(metadata ?? {})) {
    if (typeof text !== 'string') throw new TypeError(`expected \`metadata.${field}\` to be a string, got ${typeof text}`);
  }
  if (sequence.nextTokenIndex === 0) throw new RangeError('expected the sequence to hold tokens, got none; evaluate a prompt first');
}
