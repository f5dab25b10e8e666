// fixtures/lmcache: what the real LMCache 0.5.6 wrote and how it names things.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LmcacheName } from '../../../connectors/engine/lmcache/key-text.js';
import type { LmcacheDtype } from '../../../lib/key/lmcache-key.js';

export const GOLDEN = join(import.meta.dirname, '../../../fixtures/lmcache');

/** Name and bytes of each golden object of a form. */
export function goldenObjects(form: 'fs' | 'mp-fs'): { stored: string; bytes: Buffer }[] {
  return readdirSync(join(GOLDEN, form)).map((stored) => ({ stored, bytes: readFileSync(join(GOLDEN, form, stored)) }));
}

interface GoldenKey {
  readonly model: string;
  readonly hash: string;
  readonly dtype: LmcacheDtype;
  readonly world_size: number;
  readonly worker_id: number;
  readonly tags?: [string, string][];
  readonly layer?: number;
  readonly kv_rank: number;
  readonly object_group?: number;
  readonly cache_salt?: string;
}

interface GoldenNames {
  readonly engine: readonly { readonly key: GoldenKey; readonly stored: Record<'fs' | 'resp' | 's3', string> & { readonly redis: readonly [string, string] } }[];
  readonly multiprocess: readonly { readonly key: GoldenKey; readonly stored: Record<'mp-fs' | 'mp-resp' | 'mp-s3', string> }[];
}

export const NAMES = JSON.parse(readFileSync(join(GOLDEN, 'names.json'), 'utf8')) as GoldenNames;

export function engineName({ model, world_size: worldSize, worker_id: workerId, hash, dtype, tags, layer }: GoldenKey): LmcacheName {
  return { kind: 'engine', parts: { model, worldSize, workerId, hash, dtype, ...(layer !== undefined && { layer }), ...(tags && { tags }) } };
}

export function objectName({ model, hash, kv_rank: kvRank, object_group: objectGroup = 0, cache_salt: cacheSalt }: GoldenKey): LmcacheName {
  return { kind: 'object', parts: { model, hash, kvRank, objectGroup, ...(cacheSalt !== undefined && { cacheSalt }) } };
}
