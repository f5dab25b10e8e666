// Names what is public, nothing else.
export { decode, encode, encodeBound, inspect } from './codec/codec.js';
export { extractStream } from './codec/coders/hevc.js';
export { CODER_NAMES } from './codec/coders/registry.js';
export { packLayout, tensorBytes, unpackLayout } from './codec/layout.js';
export { QUALITY_NAMES, RUNG_NAMES } from './codec/rungs.js';
export type { MeasuredError, ObjectHeader } from './container/header.js';
export { KvError, type KvErrorCode } from './errors.js';
export { prefixHashes, type PrefixHash, type PrefixHashAlgorithm, type PrefixHashExtra, type PrefixHashOptions } from './key/prefix-hash.js';
export { kvRank, objectFileName, objectKey } from './key/object-key.js';
export { lmcacheKey } from './key/lmcache-key.js';
export type { DecodeOptions, EncodeOptions } from './options.js';
export type * from './store/connector.js';
export type * from './types.js';
export type { RunChunk, RunManifest } from './store/manifest.js';
export type { KvGeometry, Namespace } from './store/namespace.js';
export { KvStore, type FetchedTensor, type PutRunOptions, type RunTensor } from './store/store.js';
export type { FetchOptions, KvStoreOptions, LookupOptions, PutTensorOptions, StoreCallOptions } from './store/store-options.js';
