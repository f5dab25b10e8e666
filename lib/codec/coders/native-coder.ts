// What the coders inside the addon have in common on this side.
import { asKvErrors, native, NATIVE_CODERS, type NativeCoder, type NativeErrors, type NativeLayout, type NativeParameters } from '../native.js';
import { toNativeLayout } from '../layout.js';
import type { KvLayout } from '../../types.js';
import type { ChunkDescription, ChunkErrors, Coder } from './coder.js';

const MAX_POSITION = 2 ** 24; // kMaxPosition in rotary.h
const FLOATS: ReadonlySet<string> = new Set(['bf16', 'f16', 'f32']);

/** A coder of the addon by its name there; `own` is what only this coder knows. */
export function nativeCoder(name: NativeCoder, own: Pick<Coder, 'hasModel' | 'refuses' | 'sectionCount' | 'sectionsOf'>): Coder {
  return {
    name,
    ...own,
    bound: (chunk) => asKvErrors(() => native().encodeBound(parametersOf(name, chunk))),
    encode: (chunk, tensor, out, call) => asKvErrors(() => native().encode(parametersOf(name, chunk), tensor, out, call.cancel, call.threads)),
    decode: ({ chunk, model, selection, sections, bytes }, target, tensor, call) =>
      asKvErrors(() => native().decode(parametersOf(name, chunk), model, selection, sections, bytes, layoutOf(target), tensor, call.cancel, call.threads)),
    verify: async ({ chunk, model, selection, sections, bytes }, original, call) =>
      errorsOf(
        await asKvErrors(() =>
          native().verify(parametersOf(name, chunk), model, selection, sections, bytes, layoutOf(chunk.layout), original, call.cancel, call.threads),
        ),
      ),
  };
}

/** Why a chunk cannot be quantised; undefined if it can. */
export function refuseToQuantise(chunk: ChunkDescription): string | undefined {
  if (chunk.rung.gainEighths === undefined) return 'it quantises; ask for a rung from q7 to q2, or for another coder';
  if (chunk.layout.order === 'bytes') return 'the layout is not known, and bytes that are not understood are only ever kept exact';
  if (!FLOATS.has(chunk.layout.dtype)) return `elements of type ${chunk.layout.dtype} have too few bits to gain by quantising; use exact`;
  if (chunk.layout.rope !== undefined && chunk.start + chunk.layout.tokens > MAX_POSITION) {
    return `rotations are computed for positions up to ${MAX_POSITION} only; leave \`rope\` out, or use exact`;
  }
  return undefined;
}

/** A chunk as the addon takes it. */
export function parametersOf(name: NativeCoder, chunk: ChunkDescription): NativeParameters {
  const { rope } = chunk.layout;
  return {
    ...layoutOf(chunk.layout),
    coder: NATIVE_CODERS.indexOf(name),
    groupTokens: chunk.groupTokens,
    start: chunk.start,
    gainEighths: chunk.rung.gainEighths ?? 0,
    rotaryDims: rope === undefined ? 0 : (rope.rotaryDims ?? chunk.layout.headDim),
    rotaryStyle: rope?.style === 'interleaved' ? 1 : 0,
    thetas: Float64Array.from(rope === undefined ? [] : typeof rope.theta === 'number' ? [rope.theta] : rope.theta),
  };
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
