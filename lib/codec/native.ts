// Loads the addon; no other file names it. Enumerations are numbered as the C++ ones are.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { KvError, type KvErrorCode } from '../errors.js';
import type { Dtype, LayoutOrder } from '../types.js';

/** Element types in the addon's order (plane_shape.h). */
export const DTYPES: readonly Dtype[] = ['bf16', 'f16', 'f32', 'f8_e4m3', 'f8_e5m2', 'u8'];

/** Layouts in the addon's order (layout.h). */
export const LAYOUT_ORDERS: readonly LayoutOrder[] = [
  'split',
  'fused',
  'lmcache_2ltd',
  'mla',
  'vllm_cpu_pages',
  'vllm_cpu_rows',
  'sglang_layer_first',
  'sglang_page_first',
  'bytes',
];

/** Coders in the addon's order (coders.h). */
export const NATIVE_CODERS = ['raw', 'exact', 'rans', 'hevc'] as const;

export type NativeCoder = (typeof NATIVE_CODERS)[number];

/** A tensor's layout as the addon takes it. */
export interface NativeLayout {
  readonly order: number;
  readonly dtype: number;
  readonly layers: number;
  readonly planes: number;
  readonly tokens: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly blockTokens: number;
}

export interface NativeParameters extends NativeLayout {
  readonly coder: number;
  readonly groupTokens: number;
  /** Absolute position of the first token. */
  readonly start: number;
  /** log2 of the rung's step, in 1/8 octaves. */
  readonly gainEighths: number;
  /** 0 where K is not to be un-rotated. */
  readonly rotaryDims: number;
  readonly rotaryStyle: number;
  /** None, one, or one a layer. */
  readonly thetas: Float64Array;
}

export interface NativeSelection {
  readonly layerBegin: number;
  readonly layerCount: number;
  readonly groupBegin: number;
  readonly groupCount: number;
}

export interface NativeEncoded {
  readonly model: Uint8Array;
  /** (offset, length, checksum) of each section. */
  readonly sections: BigUint64Array;
}

/** How far a decoded tensor is from its original, as sums over all elements that are finite in the original. */
export interface NativeErrors {
  readonly maxAbsolute: number;
  readonly squaredError: number;
  readonly squaredOriginal: number;
  readonly different: number;
}

/** The addon's functions. Buffers must not be touched until the promise settles. */
export interface Native {
  /** Bytes that an encode needs at most. */
  encodeBound(parameters: NativeParameters): { readonly sections: number; readonly model: number };
  encode(parameters: NativeParameters, tensor: Uint8Array, out: Uint8Array, cancel: Int32Array, threads: number): Promise<NativeEncoded>;
  decode(
    parameters: NativeParameters,
    model: Uint8Array,
    selection: NativeSelection,
    sections: BigUint64Array,
    object: Uint8Array,
    target: NativeLayout,
    tensor: Uint8Array,
    cancel: Int32Array,
    threads: number,
  ): Promise<void>;
  verify(
    parameters: NativeParameters,
    model: Uint8Array,
    selection: NativeSelection,
    sections: BigUint64Array,
    object: Uint8Array,
    target: NativeLayout,
    original: Uint8Array,
    cancel: Int32Array,
    threads: number,
  ): Promise<NativeErrors>;
  /** Layers that one stream of coder hevc holds. */
  hevcStreamLayers(parameters: NativeParameters): number;
  pack(layout: NativeLayout, source: Uint8Array, target: Uint8Array): void;
  unpack(layout: NativeLayout, source: Uint8Array, target: Uint8Array): void;
  xxh3(bytes: Uint8Array): bigint;
  /**
   * Reads a part of an entry file's value into `into`, and the file's last bytes into `tail`. Gives the bytes of the file (NaN if it is no
   * regular one) and those read of the value; undefined if there is no file. Rejects with a system error.
   */
  readEntry(path: string, key: Uint8Array, tail: Uint8Array, offset: number, length: number, into: Uint8Array): Promise<readonly [number, number] | undefined>;
  /**
   * Opens a file of this user that is to be mapped, or makes it with `createBytes` above 0: its descriptor, the caller's to close, and its bytes. Throws an
   * Error whose `code` is that of the system, ENOTREG or ENOTOWN.
   */
  openShared(path: string, createBytes: number): readonly [file: number, bytes: number];
  /** Whether this process has the file for itself from now on, until it closes it or ends. */
  lockFile(file: number): boolean;
  /** Maps a range of such a file, of at most 2 GiB; the offset is a multiple of the page size. Throws a system error. */
  mapFile(file: number, offset: number, bytes: number): ArrayBuffer;
  /** Unmaps what `mapFile` gave; nothing may work in it any more. */
  unmapFile(buffer: ArrayBuffer): void;
  /** Takes memory for a range of a file. Rejects with a system error. */
  reserveFile(file: number, offset: number, bytes: number): Promise<void>;
  /** Has the system wake who waits for a socket only when so many bytes have come, or it ends. False where it does not. */
  setReceiveThreshold(socket: number, bytes: number): boolean;
  forceScalar(force: boolean): void;
}

let loaded: Native | undefined;

/** The addon, loaded at first use. Throws KV_ADDON_MISSING with what to do where it is not there or does not fit. */
export function native(): Native {
  loaded ??= load();
  return loaded;
}

/** Runs a call of the addon, which throws (or rejects with) plain errors that have a `code`, so that it gives KvErrors. */
export function asKvErrors<T>(call: () => T): T {
  try {
    const result = call();
    return result instanceof Promise ? (result.catch(rethrow) as T) : result;
  } catch (error) {
    return rethrow(error);
  }
}

function rethrow(error: unknown): never {
  const code: unknown = error instanceof Error ? Reflect.get(error, 'code') : undefined;
  throw error instanceof Error && typeof code === 'string' && code.startsWith('KV_') ? new KvError(code as KvErrorCode, error.message) : error;
}

function load(): Native {
  const root = packageRoot();
  const prebuilt = join(root, 'prebuilds', `${process.platform}-${process.arch}.node`);
  const built = join(root, 'build', 'Release', 'kvreel.node');
  // What was compiled here comes first: in a checkout it is newer, and where a prebuilt one did not load it is what replaced it.
  const path = [built, prebuilt].find((candidate) => existsSync(candidate));
  if (path === undefined) {
    throw new KvError(
      'KV_ADDON_MISSING',
      `the native addon is neither prebuilt for ${process.platform}-${process.arch} nor built: ` +
        `run \`npm rebuild kvreel\` (or \`npm run build:addon\` in a checkout); it needs a C++17 compiler, make and Python 3`,
    );
  }
  try {
    return createRequire(path)(path) as Native;
  } catch (cause) {
    throw new KvError(
      'KV_ADDON_MISSING',
      `the native addon at ${path} does not load on Node ${process.version}: run \`npm rebuild kvreel\` to compile it for this machine`,
      { cause },
    );
  }
}

// The nearest folder upwards with our package.json: dist/ and the sources lie at different depths.
function packageRoot(): string {
  let folder = typeof __dirname === 'undefined' ? dirname(fileURLToPath(import.meta.url)) : __dirname;
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new KvError('KV_ADDON_MISSING', 'the package that this file belongs to is incomplete: package.json is missing');
    folder = parent;
  }
  return folder;
}
