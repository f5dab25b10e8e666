import type { SectionTable } from '../../container/object.js';
import type { KvLayout } from '../../types.js';
import type { Rung } from '../rungs.js';

/** What a coder is told about a chunk. Everything in it is stored in the object's header, so that a reader is told the same. */
export interface ChunkDescription {
  readonly layout: KvLayout;
  /** Absolute position of the first token. */
  readonly start: number;
  readonly rung: Rung;
  /** Tokens of one section. */
  readonly groupTokens: number;
}

/** How one call is carried out; not part of the object. */
export interface CoderCall {
  /** Polled; nonzero cancels. */
  readonly cancel: Int32Array;
  /** Threads that may work on the call; 0 = all of the pool. */
  readonly threads: number;
}

export interface EncodedChunk {
  /** Side information for the header. */
  readonly model: Uint8Array;
  readonly sections: SectionTable;
}

/** A part of a chunk: whole groups of tokens of whole layers. */
export interface Selection {
  readonly layerBegin: number;
  readonly layerCount: number;
  readonly groupBegin: number;
  readonly groupCount: number;
}

/** How far a decoded chunk is from its original. */
export interface ChunkErrors {
  readonly identical: boolean;
  readonly maxAbsolute: number;
  readonly relativeRms: number;
}

/** Coded bytes of (part of) a chunk, and what is needed to read them. */
export interface CodedChunk {
  readonly chunk: ChunkDescription;
  readonly model: Uint8Array;
  readonly selection: Selection;
  /** The sections that `sectionsOf(selection)` names, with offsets into `bytes`. */
  readonly sections: SectionTable;
  readonly bytes: Uint8Array;
}

/**
 * What turns a chunk into sections of bytes. One file a coder, listed in registry.ts; docs/codecs.md shows how to add one.
 * Every function may reject with KV_CORRUPT_OBJECT, KV_OUT_OF_MEMORY, KV_CANCELLED.
 */
export interface Coder {
  readonly name: string;
  /** Whether it keeps side information in the header. */
  readonly hasModel: boolean;
  /** Whether it can code this chunk, and if not, why not. */
  refuses(chunk: ChunkDescription): string | undefined;
  /** Bytes that `encode` needs at most for sections and model. */
  bound(chunk: ChunkDescription): { readonly sections: number; readonly model: number };
  /** Writes the sections to the front of `out`. */
  encode(chunk: ChunkDescription, tensor: Uint8Array, out: Uint8Array, call: CoderCall): Promise<EncodedChunk>;
  /** Number of sections in a whole object; a header with another number is corrupt. Undefined if only the bytes tell. */
  sectionCount(chunk: ChunkDescription): number | undefined;
  /** Indices of the sections that hold a selection, in the order that `decode` wants them. */
  sectionsOf(chunk: ChunkDescription, selection: Selection): readonly number[];
  /** Decodes into `tensor`, laid out as `target`. Each section is checked against its checksum before it is decoded. */
  decode(coded: CodedChunk, target: KvLayout, tensor: Uint8Array, call: CoderCall): Promise<void>;
  /** Decodes and compares with the tensor that was encoded. */
  verify(coded: CodedChunk, original: Uint8Array, call: CoderCall): Promise<ChunkErrors>;
}

/** Groups of tokens in a chunk. */
export function groupsOf(chunk: ChunkDescription): number {
  return Math.ceil(chunk.layout.tokens / chunk.groupTokens);
}

/** The selection that is the whole chunk. */
export function wholeChunk(chunk: ChunkDescription): Selection {
  return { layerBegin: 0, layerCount: chunk.layout.layers, groupBegin: 0, groupCount: groupsOf(chunk) };
}
