// LMCache's objects in a place: names, metadata and data in the order in which LMCache writes and reads them.
import type { CallOptions } from '../../../lib/store/connector.js';
import type { LmcacheName } from './key-text.js';
import { REDIS_DATA, REDIS_METADATA } from './forms.js';
import type { OpenedPlace } from './open-place.js';
import { metadataBytesBefore, packRemoteMetadata, parseRemoteMetadata, type RemoteMetadata } from './remote-metadata.js';

/** One object as LMCache has it. */
export interface LmcacheObject {
  readonly metadata: RemoteMetadata;
  readonly data: Uint8Array;
}

/** Every object's stored name and what it says, in no order; undefined for what is no object of this form or of another model. */
export async function* listObjects({ place, form }: OpenedPlace, model: string | undefined, options: CallOptions): AsyncGenerator<{ stored: string; name: LmcacheName | undefined }> {
  for await (const stored of place.list(options)) {
    if (form.metadata !== 'beside') yield { stored, name: form.parseName(stored, model) };
    // Of the two names of an object the one that LMCache looks for first.
    else if (stored.endsWith(REDIS_METADATA)) yield { stored, name: form.parseName(stored.slice(0, -REDIS_METADATA.length), model) };
    else if (!stored.endsWith(REDIS_DATA)) yield { stored, name: undefined };
  }
}

/**
 * Reads an object. `bare` gives the metadata of forms that have none, from the length of the data. Undefined if it is not there (any more).
 * Rejects with KV_CORRUPT_OBJECT, KV_UNSUPPORTED, or as the place does.
 */
export async function readObject({ place, form }: OpenedPlace, name: LmcacheName, bare: (bytes: number) => RemoteMetadata, options: CallOptions): Promise<LmcacheObject | undefined> {
  const stored = form.storedName(name);
  if (form.metadata === 'beside') {
    const metadata = await place.get(stored + REDIS_METADATA, options);
    const data = metadata && (await place.get(stored + REDIS_DATA, options));
    return metadata && data && { metadata: parseRemoteMetadata(metadata), data };
  }
  const bytes = await place.get(stored, options);
  if (bytes === undefined) return undefined;
  if (form.metadata === 'none') return { metadata: bare(bytes.length), data: bytes };
  const start = metadataBytesBefore(bytes, bytes.length);
  return { metadata: parseRemoteMetadata(bytes.subarray(0, start)), data: bytes.subarray(start) };
}

/** Writes an object. Rejects as the place does. */
export async function writeObject({ place, form }: OpenedPlace, name: LmcacheName, { metadata, data }: LmcacheObject, options: CallOptions): Promise<void> {
  const stored = form.storedName(name);
  const call = { ...options, hash: name.parts.hash };
  if (form.metadata === 'none') return place.put(stored, [data], call);
  const head = packRemoteMetadata(metadata);
  if (form.metadata === 'before') return place.put(stored, [head, data], call);
  // Data first: whoever finds the metadata finds the data too.
  await place.put(stored + REDIS_DATA, [data], call);
  await place.put(stored + REDIS_METADATA, [head], call);
}
