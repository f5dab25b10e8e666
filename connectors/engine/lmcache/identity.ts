// Where an LMCache object stands among ours: its chunk hash is our prefix hash, and all else of its name goes into the namespace.
import { Buffer } from 'node:buffer';
import { KvError } from '../../../lib/errors.js';
import type { KvGeometry, Namespace } from '../../../lib/store/namespace.js';
import { dtypeOf } from './chunk-tensor.js';
import { parseEngineKey, parseObjectKey, textOf, type LmcacheName } from './key-text.js';
import { packRemoteMetadata, parseRemoteMetadata, type RemoteMetadata } from './remote-metadata.js';

// Text stored with each object, from which the very same LMCache object can be made again.
const KEY_FIELDS = { engine: 'lmcache_key', object: 'lmcache_object_key' } as const;
const METADATA_FIELD = 'lmcache_metadata';

/** What an object that came from LMCache says of its origin. */
export interface Origin {
  /** Without its salt, which is never stored. */
  readonly name: LmcacheName;
  readonly metadata: RemoteMetadata;
}

/**
 * The namespace of an object's chunk. Undefined for a rank that cannot be. A multiprocess object's salt is the tenant's; tags, an object
 * group and a dtype that only LMCache has stand as the adapter.
 */
export function namespaceOf(name: LmcacheName, geometry: KvGeometry): Namespace | undefined {
  const rank = rankOf(name);
  if (rank.index >= rank.of) return undefined;
  const adapter = adapterOf(name);
  const salt = name.kind === 'object' ? (name.parts.cacheSalt ?? '') : '';
  return { model: name.parts.model, geometry, ...(rank.of > 1 && { rank }), ...(adapter !== '' && { adapter }), ...(salt !== '' && { salt }) };
}

/** The origin as text to store with an object. */
export function packOrigin({ name, metadata }: Origin): Record<string, string> {
  return { [KEY_FIELDS[name.kind]]: textOf(unsalted(name)), [METADATA_FIELD]: Buffer.from(packRemoteMetadata(metadata)).toString('hex') };
}

/** Reads the text that `packOrigin` made; undefined where there is none. Throws KV_CORRUPT_OBJECT for other text. */
export function parseOrigin(text: Readonly<Record<string, string>>): Origin | undefined {
  const { [KEY_FIELDS.engine]: engineKey, [KEY_FIELDS.object]: key, [METADATA_FIELD]: metadata } = text;
  if (metadata === undefined || (engineKey ?? key) === undefined) return undefined;
  const name = engineKey !== undefined ? parseEngineKey(engineKey) : parseObjectKey(key ?? '');
  if (name === undefined) throw new KvError('KV_CORRUPT_OBJECT', 'the object is damaged: its key is none of LMCache');
  return { name, metadata: parseRemoteMetadata(Buffer.from(metadata, 'hex')) };
}

function unsalted(name: LmcacheName): LmcacheName {
  return name.kind === 'object' ? { ...name, parts: { ...name.parts, cacheSalt: '' } } : name;
}

function rankOf(name: LmcacheName): { index: number; of: number } {
  if (name.kind === 'engine') return { index: name.parts.workerId, of: name.parts.worldSize };
  // One byte each: workers, rank, and the same among those of the machine.
  return { index: (name.parts.kvRank >>> 16) & 0xff, of: name.parts.kvRank >>> 24 };
}

function adapterOf(name: LmcacheName): string {
  if (name.kind === 'object') return name.parts.objectGroup ? `object_group%${name.parts.objectGroup}` : '';
  const { tags = [], dtype } = name.parts;
  const all = dtypeOf(dtype) === undefined ? [...tags, ['dtype', dtype]] : tags;
  return all.map(([tag, value]) => `${tag}%${value}`).join('@');
}
