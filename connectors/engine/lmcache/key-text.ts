// LMCache's keys as text, read back. Neither kind escapes anything, so a text can mean two keys; the ones that LMCache 0.5.6 itself
// would take it for are chosen.
import { lmcacheKey, type LmcacheDtype, type LmcacheKeyParts } from '../../../lib/key/lmcache-key.js';
import { objectKey, type ObjectKeyParts } from '../../../lib/key/object-key.js';

/** What LMCache names an object by: a CacheEngineKey in the engine's process, an ObjectKey in its multiprocess server. */
export type LmcacheName = { readonly kind: 'engine'; readonly parts: LmcacheKeyParts } | { readonly kind: 'object'; readonly parts: ObjectKeyParts };

// The model up to the first place where the rest fits: tags come from requests, the model does not.
const ENGINE_KEY = /^(?<model>.*?)@(?<worldSize>[1-9]\d{0,8})@(?<workerId>0|[1-9]\d{0,8})@(?<hash>0|-?[1-9a-f][0-9a-f]{0,63})@(?<dtype>[a-z]\w*)(?:@(?<layer>0|[1-9]\d{0,8}))?(?:@(?<tags>.*))?$/su;
const OBJECT_KEY = /^(?<model>[^@]*)@(?:0x)?(?<kvRank>[0-9a-f]{8})@(?<group>0|[1-9a-f][0-9a-f]{0,7})@(?<hash>(?:[0-9a-f]{2})+)(?:@(?<salt>[^@]+))?$/su;

/** The text of a name: `CacheEngineKey.to_string()`, or what the multiprocess server sends to S3 and Redis. */
export function textOf(name: LmcacheName): string {
  return name.kind === 'engine' ? lmcacheKey(name.parts) : objectKey(name.parts);
}

/** Whether LMCache could have such a name: the writers of names know what a part may be. */
export function isName(name: LmcacheName): boolean {
  try {
    textOf(name);
    return true;
  } catch (cause) {
    if (cause instanceof TypeError || cause instanceof RangeError) return false;
    throw cause;
  }
}

/** Reads the text of a CacheEngineKey; undefined for other texts. */
export function parseEngineKey(text: string): LmcacheName | undefined {
  const { model = '', worldSize, workerId, hash = '', dtype = '', layer, tags } = ENGINE_KEY.exec(text)?.groups ?? {};
  return checked({
    kind: 'engine',
    parts: {
      model,
      worldSize: Number(worldSize),
      workerId: Number(workerId),
      hash,
      dtype: dtype as LmcacheDtype,
      ...(layer !== undefined && { layer: Number(layer) }),
      ...(tags !== undefined && { tags: parseTags(tags) }),
    },
  });
}

/** Reads the text of an ObjectKey, with or without the `0x` of file names; undefined for other texts. */
export function parseObjectKey(text: string): LmcacheName | undefined {
  const { model = '', kvRank, group = '', hash = '', salt } = OBJECT_KEY.exec(text)?.groups ?? {};
  return checked({
    kind: 'object',
    parts: { model, hash, kvRank: parseInt(kvRank ?? '', 16), objectGroup: parseInt(group, 16), ...(salt !== undefined && { cacheSalt: salt }) },
  });
}

// A piece without % is the rest of a value that has an @ in it.
function parseTags(text: string): [string, string][] {
  const tags: [string, string][] = [];
  for (const piece of text.split('@')) {
    const percent = piece.indexOf('%');
    const last = tags.at(-1);
    if (percent === -1 && last !== undefined) last[1] += `@${piece}`;
    else tags.push(percent === -1 ? [piece, ''] : [piece.slice(0, percent), piece.slice(percent + 1)]);
  }
  return tags;
}

function checked(name: LmcacheName): LmcacheName | undefined {
  return isName(name) ? name : undefined;
}
