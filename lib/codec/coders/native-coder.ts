// What the coders inside the addon have in common on this side.
import { native, NATIVE_CODERS, type NativeCoder, type NativeErrors, type NativeLayout, type NativeParameters } from '../native.js';
import { toNativeLayout } from '../layout.js';
import type { KvLayout } from '../../types.js';
import type { ChunkDescription, ChunkErrors, Coder } from './coder.js';

/** A coder of the addon by its name there; `own` is what only this coder knows. */
export function nativeCoder(name: NativeCoder, own: Pick<Coder, 'refuses' | 'sectionCount' | 'sectionsOf'>): Coder {
  return {
    name,
    ...own,
    bound: (chunk) => native().encodeBound(parametersOf(name, chunk)),
    encode: (chunk, tensor, out, call) => native().encode(parametersOf(name, chunk), tensor, out, call.cancel, call.threads),
    decode: ({ chunk, model, selection, sections, bytes }, target, tensor, call) =>
      native().decode(parametersOf(name, chunk), model, selection, sections, bytes, layoutOf(target), tensor, call.cancel, call.threads),
    verify: async ({ chunk, model, selection, sections, bytes }, original, call) =>
      errorsOf(
        await native().verify(parametersOf(name, chunk), model, selection, sections, bytes, layoutOf(chunk.layout), original, call.cancel, call.threads),
      ),
  };
}

function parametersOf(name: NativeCoder, chunk: ChunkDescription): NativeParameters {
  return { ...layoutOf(chunk.layout), coder: NATIVE_CODERS.indexOf(name), groupTokens: chunk.groupTokens };
}

// Bytes that nobody understands are coded as one plane of rows.
function layoutOf(layout: KvLayout): NativeLayout {
  return toNativeLayout(layout.order === 'bytes' ? { ...layout, order: 'mla' } : layout);
}

function errorsOf(errors: NativeErrors): ChunkErrors {
  return {
    identical: errors.different === 0,
    maxAbsolute: errors.maxAbsolute,
    relativeRms: errors.squaredOriginal === 0 ? Math.sqrt(errors.squaredError) : Math.sqrt(errors.squaredError / errors.squaredOriginal),
  };
}
