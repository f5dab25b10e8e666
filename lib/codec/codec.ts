import { packObjectStart, readObject, sectionTable } from '../container/object.js';
import type { ObjectHeader } from '../container/header.js';
import { KvError } from '../errors.js';
import { checkDecodeOptions, checkEncodeOptions, DECODE_DEFAULTS, ENCODE_DEFAULTS, type DecodeOptions, type EncodeOptions } from '../options.js';
import type { KvTensor } from '../types.js';
import { withCancelFlag } from './cancel.js';
import { wholeChunk, type ChunkDescription, type ChunkErrors, type Coder, type CoderCall } from './coders/coder.js';
import { coderNamed, defaultCoder } from './coders/registry.js';
import { checkLayout, checkStart, checkTensor, tensorBytes } from './layout.js';
import { rungOf } from './rungs.js';

/**
 * Encodes one chunk's KV cache into an object: header, checksums and coded sections in one array.
 * Unless `verify` is off, the object is decoded again and compared before it is returned.
 *
 * Throws a TypeError or RangeError for a tensor or option that cannot be. Rejects with KV_UNSUPPORTED (the coder cannot carry this
 * tensor), KV_OUT_OF_MEMORY, KV_OVERLOADED, KV_ADDON_MISSING, or the signal's reason.
 */
export async function encode(tensor: KvTensor, options: EncodeOptions = {}): Promise<Uint8Array> {
  checkTensor(tensor);
  checkEncodeOptions(options);
  if (options.tokenIds !== undefined && options.tokenIds.length !== tensor.layout.tokens) {
    throw new RangeError(`expected \`tokenIds\` to hold one id a token (${tensor.layout.tokens}), got ${options.tokenIds.length}`);
  }
  const { chunk, coder } = chooseCoder(tensor, options);
  const room = roomFor(chunk, coder, options);
  const whole = options.into ?? new Uint8Array(room.start + room.sections);
  if (whole.byteLength < room.start + room.sections) {
    throw new RangeError(`expected \`into\` to be at least ${room.start + room.sections} bytes (encodeBound), got ${whole.byteLength}`);
  }
  const out = whole.subarray(room.start);
  return withCancelFlag(options.signal, async (cancel) => {
    const call: CoderCall = { cancel, threads: options.threads ?? ENCODE_DEFAULTS.threads };
    const { model, sections } = await coder.encode(chunk, tensor.data, out, call);
    const lengths = everyThird(sections, 1);
    const sectionBytes = Number(lengths.reduce((sum, length) => sum + length, 0n));
    const coded = { chunk, model, selection: wholeChunk(chunk), sections, bytes: out.subarray(0, sectionBytes) };
    const errors = (options.verify ?? ENCODE_DEFAULTS.verify) ? await coder.verify(coded, tensor.data, call) : undefined;
    if (errors && chunk.rung.name === 'exact' && !errors.identical) {
      throw new KvError('KV_CORRUPT_OBJECT', `coder ${coder.name} did not restore this tensor bit by bit; please report it with the tensor`);
    }
    const start = packObjectStart(
      {
        layout: chunk.layout,
        start: chunk.start,
        coder: coder.name,
        rung: chunk.rung.name,
        groupTokens: chunk.groupTokens,
        key: options.key ?? ENCODE_DEFAULTS.key,
        model,
        lengths: Uint32Array.from(lengths, Number),
        checksums: everyThird(sections, 2),
        ...measuredError(errors),
        ...(options.tokenIds && { tokenIds: options.tokenIds }),
        ...(options.metadata && { metadata: options.metadata }),
      },
      sectionBytes,
    );
    // The header is known last but stands first: it is put right before the sections, where room was left for it.
    whole.set(start, room.start - start.length);
    return whole.subarray(room.start - start.length, room.start + sectionBytes);
  });
}

/** Bytes of memory that `encode` needs for this tensor and these options: the least that `into` may be. */
export function encodeBound(tensor: KvTensor, options: EncodeOptions = {}): number {
  checkTensor(tensor);
  checkEncodeOptions(options);
  const { chunk, coder } = chooseCoder(tensor, options);
  const room = roomFor(chunk, coder, options);
  return room.start + room.sections;
}

/**
 * Decodes an object into a tensor of the layout that was encoded. Every byte is checked against its checksum before a decoder sees it.
 *
 * Throws a TypeError or RangeError for an option that cannot be. Rejects with KV_CORRUPT_OBJECT, KV_UNSUPPORTED_VERSION, KV_UNSUPPORTED,
 * KV_GEOMETRY_MISMATCH (the object was made for another key), KV_OUT_OF_MEMORY, KV_OVERLOADED, KV_ADDON_MISSING, or the signal's reason.
 */
export async function decode(object: Uint8Array, options: DecodeOptions = {}): Promise<KvTensor> {
  checkDecodeOptions(options);
  const { header, sectionStart } = readObject(object);
  if (options.key !== undefined && header.key !== options.key) {
    throw new KvError('KV_GEOMETRY_MISMATCH', `the object was made for the key ${JSON.stringify(header.key)}, not for ${JSON.stringify(options.key)}`);
  }
  const { chunk, coder } = checkedChunk(header);
  const bytes = tensorBytes(chunk.layout);
  const maxBytes = options.maxBytes ?? DECODE_DEFAULTS.maxBytes;
  if (bytes > maxBytes) throw new KvError('KV_UNSUPPORTED', `the object holds a tensor of ${bytes} bytes; \`maxBytes\` allows ${maxBytes}`);
  const data = options.into ?? new Uint8Array(bytes);
  if (data.byteLength !== bytes) throw new RangeError(`expected \`into\` to be ${bytes} bytes, got ${data.byteLength}`);
  const coded = {
    chunk,
    model: header.model,
    selection: wholeChunk(chunk),
    sections: sectionTable(header),
    bytes: object.subarray(sectionStart),
  };
  await withCancelFlag(options.signal, (cancel) => coder.decode(coded, chunk.layout, data, { cancel, threads: options.threads ?? DECODE_DEFAULTS.threads }));
  return { layout: chunk.layout, data, start: header.start };
}

/** What an object says of itself, checked for sense but not decoded. Rejects like `decode`. */
export function inspect(object: Uint8Array): ObjectHeader {
  const { header } = readObject(object);
  checkedChunk(header);
  return header;
}

/** The chunk and coder of a header, refused with a code where they make no sense together. */
export function checkedChunk(header: ObjectHeader): { readonly chunk: ChunkDescription; readonly coder: Coder } {
  const coder = coderNamed(header.coder);
  if (coder === undefined) throw new KvError('KV_UNSUPPORTED', `the object was made by coder ${JSON.stringify(header.coder)}, which this version does not have`);
  const chunk = refusedAsCorrupt(() => {
    checkLayout(header.layout);
    checkStart(header.start);
    const rung = rungOf(header.rung);
    if (rung.name !== header.rung) throw new RangeError(`rung is ${header.rung}`);
    if (header.tokenIds && header.tokenIds.length !== header.layout.tokens) throw new RangeError(`token_ids are ${header.tokenIds.length}`);
    if (header.groupTokens < 1 || header.groupTokens > header.layout.tokens) throw new RangeError(`group_tokens is ${header.groupTokens}`);
    return { layout: header.layout, start: header.start, rung, groupTokens: header.groupTokens };
  });
  const refusal = coder.refuses(chunk);
  if (refusal !== undefined) throw new KvError('KV_CORRUPT_OBJECT', `the object is damaged: coder ${coder.name} cannot have made it: ${refusal}`);
  if (!coder.hasModel && header.model.length > 0) throw new KvError('KV_CORRUPT_OBJECT', `the object is damaged: coder ${coder.name} has no side information`);
  const sections = coder.sectionCount(chunk);
  if (sections !== undefined && sections !== header.lengths.length) {
    throw new KvError('KV_CORRUPT_OBJECT', `the object is damaged: it has ${header.lengths.length} sections where ${sections} are expected`);
  }
  return { chunk, coder };
}

function refusedAsCorrupt<T>(check: () => T): T {
  try {
    return check();
  } catch (cause) {
    if (!(cause instanceof TypeError || cause instanceof RangeError)) throw cause;
    throw new KvError('KV_CORRUPT_OBJECT', `the object's header makes no sense: ${cause.message}`, { cause });
  }
}

function chooseCoder(tensor: KvTensor, options: EncodeOptions): { chunk: ChunkDescription; coder: Coder } {
  const rung = rungOf(options.quality ?? ENCODE_DEFAULTS.quality);
  const groupTokens = Math.min(options.groupTokens ?? ENCODE_DEFAULTS.groupTokens, tensor.layout.tokens);
  const chunk = { layout: tensor.layout, start: tensor.start ?? 0, rung, groupTokens };
  const name = options.coder ?? ENCODE_DEFAULTS.coder;
  const coder = name === 'auto' ? defaultCoder(chunk) : coderNamed(name);
  if (coder === undefined) throw new TypeError(`expected \`coder\` to be a coder's name, got ${name}`);
  const refusal = coder.refuses(chunk);
  if (refusal !== undefined) throw new KvError('KV_UNSUPPORTED', `coder ${coder.name} cannot be used here: ${refusal}`);
  return { chunk, coder };
}

function roomFor(chunk: ChunkDescription, coder: Coder, options: EncodeOptions): { start: number; sections: number } {
  const bound = coder.bound(chunk);
  const sections = coder.sectionCount(chunk) ?? chunk.layout.layers * Math.ceil(chunk.layout.tokens / chunk.groupTokens);
  const metadata = Object.entries(options.metadata ?? {}).reduce((sum, [name, text]) => sum + 3 * (name.length + text.length) + 16, 0);
  const thetas = typeof chunk.layout.rope?.theta === 'object' ? 9 * chunk.layout.rope.theta.length : 0;
  const fixed = 1024 + thetas + 3 * (options.key ?? '').length + 4 * (options.tokenIds?.length ?? 0);
  return { start: fixed + metadata + bound.model + 12 * sections, sections: bound.sections };
}

function measuredError(errors: ChunkErrors | undefined): { error?: { maxAbsolute: number; relativeRms: number } } {
  if (errors === undefined || errors.identical) return {};
  return { error: { maxAbsolute: errors.maxAbsolute, relativeRms: errors.relativeRms } };
}

function everyThird(triples: BigUint64Array, at: number): BigUint64Array {
  return BigUint64Array.from({ length: triples.length / 3 }, (_, i) => triples[3 * i + at] ?? 0n);
}
