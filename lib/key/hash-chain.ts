/**
 * What a chunk's own engine would print for it: lower-case hex of the whole digest, or of LMCache's 64-bit integer,
 * unpadded and perhaps with a minus sign.
 */
export type PrefixHash = string;

/** Takes the chunks of one sequence in order, with the index of each chunk's first token, and gives each its prefix hash. */
export type HashChain = (tokens: Uint32Array, start: number) => PrefixHash;
