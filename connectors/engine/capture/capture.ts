// A capture is a .safetensors file of real KV: `layers.<i>.k` and `.v` of shape [kv_heads, tokens, head_dim], `token_ids`, and metadata
// `model`, `rope_theta` and `start`. Here it becomes a tensor that can be encoded, and the very same file again.
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { elementBytes, packLayout, planesOf, tensorBytes } from '../../../lib/codec/layout.js';
import { KvError } from '../../../lib/errors.js';
import type { Dtype, KvLayout, KvTensor } from '../../../lib/types.js';
import { formatHeader, invalid, MAX_HEADER_BYTES, parseDirectory, type Directory, type SafetensorsFile, type TensorEntry } from './safetensors.js';
import { isTokenIds, readTokenIds, tokenIdBytes } from './token-ids.js';

/** Metadata of a stored capture: the header of its file, deflated, in base64. */
export const HEADER_FIELD = 'safetensors_header';

/** A capture as it is encoded. */
export interface StoredCapture {
  readonly tensor: KvTensor;
  readonly tokenIds?: Int32Array;
  /** The capture's own metadata, and `HEADER_FIELD`. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** A capture that was read. */
export interface ReadCapture extends StoredCapture {
  /** Why the capture is taken as bytes (layout `bytes`); undefined where its layout is understood. */
  readonly notUnderstood?: string;
}

/** A .safetensors file, cut where its parts lie in memory. */
export interface CapturePieces {
  readonly header: Uint8Array;
  readonly data: readonly Uint8Array[];
}

const DTYPES: Readonly<Record<string, Dtype>> = { BF16: 'bf16', F16: 'f16', F32: 'f32', F8_E4M3: 'f8_e4m3', F8_E5M2: 'f8_e5m2', U8: 'u8' };
const FILE_DTYPES = Object.fromEntries(Object.entries(DTYPES).map(([name, dtype]) => [dtype, name])) as Record<Dtype, string>;

const PLANE_NAME = /^layers\.(0|[1-9]\d{0,5})\.([kv])$/;
const MAX_STORED_HEADER = 16 * 1024 * 1024;

/**
 * The tensor of a capture: a view of the file's data where its planes lie in order, else a copy. What does not fit one geometry
 * becomes rows of bytes. Throws KV_INVALID_INPUT for a file without KV or with metadata that makes no sense.
 */
export function readCapture(file: SafetensorsFile): ReadCapture {
  const { directory } = file;
  if (!directory.tensors.some(({ name }) => PLANE_NAME.test(name))) throw invalid(file.name, 'it is no KV capture: it has no tensor `layers.<i>.k`');
  const metadata = { ...directory.metadata, [HEADER_FIELD]: packHeader(file) };
  const start = numberIn(file, 'start', 0);
  const geometry = geometryOf(directory);
  if (typeof geometry === 'string') return { tensor: { ...rowsOf(file), start }, metadata, notUnderstood: geometry };
  const { headDim, layers } = geometry.layout;
  const rope = ropeOf(file, layers);
  const layout: KvLayout = rope !== undefined && headDim % 2 === 0 ? { ...geometry.layout, rope: { theta: rope, style: 'half' } } : geometry.layout;
  const tokenIds = readTokenIds(file);
  return { tensor: { layout, data: inOrder(file, geometry.planes), start }, metadata, ...(tokenIds && { tokenIds }) };
}

/**
 * The file of a stored capture, equal to the one that was read; for a tensor that never was one, a new file of the same form.
 * Throws KV_CORRUPT_OBJECT if the stored header does not fit the tensor, KV_UNSUPPORTED for bytes without a header.
 */
export function writeCapture(stored: StoredCapture): CapturePieces {
  const header = storedHeader(stored);
  if (stored.tensor.layout.order === 'bytes') {
    if (header === undefined) throw new KvError('KV_UNSUPPORTED', 'the object holds bytes of a layout that nobody knows: decode it with the library');
    return writeRows(header, stored.tensor);
  }
  const tensor = isInPlanes(stored.tensor.layout) ? stored.tensor : packLayout(stored.tensor);
  const captured = { ...stored, tensor };
  return writePlanes(header ?? newHeader(captured), captured);
}

interface Geometry {
  readonly layout: KvLayout;
  /** In the tensor's order. */
  readonly planes: readonly TensorEntry[];
}

// The geometry that all planes share, or why they have none.
function geometryOf({ tensors }: Directory): Geometry | string {
  const planes = new Map(tensors.filter(({ name }) => PLANE_NAME.test(name)).map((entry) => [entry.name, entry]));
  const extra = tensors.find(({ name }) => !PLANE_NAME.test(name) && name !== 'token_ids');
  if (extra) return `it has the tensor \`${extra.name}\` beside K, V and token_ids`;
  const first = planes.get('layers.0.k');
  if (first === undefined) return 'it has no `layers.0.k`';
  const [kvHeads = 0, tokens = 0, headDim = 0] = first.shape;
  const dtype = DTYPES[first.dtype];
  if (dtype === undefined) return `its planes are of dtype ${first.dtype}`;
  if (first.shape.length !== 3 || kvHeads * tokens * headDim === 0) return `the shape of its planes is [${first.shape.join(', ')}]`;
  if (kvHeads * headDim > 65536) return `its planes have ${kvHeads * headDim} channels`;
  const hasV = planes.has('layers.0.v');
  if (!hasV && kvHeads !== 1) return 'it has no V';
  const kinds = hasV ? ['k', 'v'] : ['k'];
  const layers = planes.size / kinds.length;
  const names = Array.from({ length: Math.ceil(layers) }, (_, layer) => kinds.map((kind) => `layers.${layer}.${kind}`)).flat();
  const ordered = names.flatMap((name) => planes.get(name) ?? []);
  if (ordered.length !== planes.size || ordered.length !== names.length) return 'some of its layers lack K or V';
  const odd = ordered.find(({ dtype, shape }) => dtype !== first.dtype || shape.join() !== first.shape.join());
  if (odd) return `\`${odd.name}\` is ${odd.dtype} [${odd.shape.join(', ')}] where \`layers.0.k\` is ${first.dtype} [${first.shape.join(', ')}]`;
  const ids = tensors.find(({ name }) => name === 'token_ids');
  if (ids && !(isTokenIds(ids) && ids.shape[0] === tokens)) {
    return `token_ids is ${ids.dtype} [${ids.shape.join(', ')}], not I32 [${tokens}]`;
  }
  return { layout: { order: hasV ? 'split' : 'mla', dtype, layers, tokens, kvHeads, headDim }, planes: ordered };
}

function inOrder({ data }: SafetensorsFile, planes: readonly TensorEntry[]): Uint8Array {
  const begin = planes[0]?.begin ?? 0;
  const planeBytes = (planes[0]?.end ?? 0) - begin;
  if (planes.every((plane, i) => plane.begin === begin + i * planeBytes)) return data.subarray(begin, begin + planes.length * planeBytes);
  const ordered = new Uint8Array(planes.length * planeBytes);
  planes.forEach((plane, i) => ordered.set(data.subarray(plane.begin, plane.end), i * planeBytes));
  return ordered;
}

const MIN_ROW = 16;
const DEFAULT_ROW = 256;

// All of the file's data as rows of the length that its planes suggest, zeros after its end.
function rowsOf({ directory, data }: SafetensorsFile): KvTensor {
  const plane = directory.tensors.find(({ name }) => PLANE_NAME.test(name));
  const dtype = DTYPES[plane?.dtype ?? ''] ?? 'u8';
  const last = plane?.shape.at(-1) ?? 0;
  const headDim = last >= MIN_ROW && last <= 65536 ? last : DEFAULT_ROW;
  const rowBytes = headDim * elementBytes(dtype);
  const tokens = Math.max(1, Math.ceil(data.length / rowBytes));
  const layout: KvLayout = { order: 'bytes', dtype, layers: 1, tokens, kvHeads: 1, headDim };
  if (tokens * rowBytes === data.length) return { layout, data };
  const padded = new Uint8Array(tokens * rowBytes);
  padded.set(data);
  return { layout, data: padded };
}

function writeRows(header: Uint8Array, { data }: KvTensor): CapturePieces {
  const { dataBytes } = storedDirectory(header);
  if (dataBytes > data.length) throw corrupt('it is longer than the stored bytes');
  return { header, data: [data.subarray(0, dataBytes)] };
}

function writePlanes(header: Uint8Array, { tensor, tokenIds }: StoredCapture): CapturePieces {
  const { tensors } = storedDirectory(header);
  const expected = new Map(planeEntries(tensor.layout).map((entry) => [entry.name, entry]));
  const data = tensors.map((entry) => {
    if (entry.name === 'token_ids') return tokenIds && isTokenIds(entry) && entry.shape[0] === tokenIds.length ? tokenIdBytes(entry, tokenIds) : failToFit(entry);
    const plane = expected.get(entry.name);
    if (plane === undefined || plane.dtype !== entry.dtype || plane.shape.join() !== entry.shape.join()) return failToFit(entry);
    expected.delete(entry.name);
    return tensor.data.subarray(plane.begin, plane.end);
  });
  if (expected.size > 0) throw corrupt('it lacks planes of the tensor');
  return { header, data };
}

function newHeader({ tensor, tokenIds, metadata }: StoredCapture): Uint8Array {
  const planes = planeEntries(tensor.layout);
  const begin = tensorBytes(tensor.layout);
  const ids = tokenIds ? [{ name: 'token_ids', dtype: 'I32', shape: [tokenIds.length], begin, end: begin + 4 * tokenIds.length }] : [];
  const theta = tensor.layout.rope?.theta;
  const known = { ...(theta !== undefined && { rope_theta: typeof theta === 'number' ? String(theta) : JSON.stringify(theta) }), ...(tensor.start !== undefined && { start: String(tensor.start) }) };
  return formatHeader([...planes, ...ids], { ...known, ...metadata });
}

// Where the planes of a tensor in canonical order lie in its memory, under their names in a capture.
function planeEntries(layout: KvLayout): TensorEntry[] {
  const planes = planesOf(layout);
  const shape = [layout.kvHeads, layout.tokens, layout.headDim];
  const bytes = layout.kvHeads * layout.tokens * layout.headDim * elementBytes(layout.dtype);
  return Array.from({ length: layout.layers * planes }, (_, i) => ({
    name: `layers.${Math.floor(i / planes)}.${i % planes === 0 ? 'k' : 'v'}`,
    dtype: FILE_DTYPES[layout.dtype],
    shape,
    begin: i * bytes,
    end: (i + 1) * bytes,
  }));
}

function isInPlanes({ order }: KvLayout): boolean {
  return order === 'split' || order === 'mla';
}

function packHeader({ name, header }: SafetensorsFile): string {
  const packed = deflateRawSync(header, { level: 9 }).toString('base64');
  if (packed.length > MAX_STORED_HEADER) throw new KvError('KV_UNSUPPORTED', `${name} has a header of ${header.length} bytes, too long to be stored with an object; put fewer tensors into the file`);
  return packed;
}

function storedHeader({ metadata }: StoredCapture): Uint8Array | undefined {
  const packed = metadata[HEADER_FIELD];
  if (packed === undefined) return undefined;
  try {
    return inflateRawSync(Buffer.from(packed, 'base64'), { maxOutputLength: MAX_HEADER_BYTES });
  } catch (cause) {
    throw corrupt('it is not deflated', cause);
  }
}

function storedDirectory(header: Uint8Array): Directory {
  try {
    return parseDirectory(header, 'the stored header');
  } catch (cause) {
    throw corrupt('it cannot be read', cause);
  }
}

function failToFit({ name }: TensorEntry): never {
  throw corrupt(`its tensor \`${name}\` is not the stored one`);
}

function corrupt(finding: string, cause?: unknown): KvError {
  return new KvError('KV_CORRUPT_OBJECT', `the object's header of a .safetensors file does not fit: ${finding}; encode the capture again`, { cause });
}

// One base for all layers ("10000"), or a JSON list of one a layer for models that mix local and global attention. Anything else only
// costs the gain of un-rotating K, so it is no reason to refuse the capture.
function ropeOf(file: SafetensorsFile, layers: number): number | number[] | undefined {
  const text = file.directory.metadata.rope_theta?.trim() ?? '';
  const values = text.startsWith('[') ? text.replace(/^\[|\]$/g, '').split(',') : [text];
  const thetas = values.map((value) => (value.trim() === '' ? NaN : Number(value)));
  if (!thetas.every((theta) => theta >= 1 && theta <= 1e30)) return undefined;
  if (thetas.length === 1) return thetas[0];
  return thetas.length === layers ? thetas : undefined;
}

function numberIn(file: SafetensorsFile, field: string, absent: number): number {
  const text = file.directory.metadata[field];
  if (text === undefined) return absent;
  if (!/^\d{1,15}$/.test(text)) throw invalid(file.name, `its metadata \`${field}\` is not a whole number from 0: ${JSON.stringify(text)}`);
  return Number(text);
}
