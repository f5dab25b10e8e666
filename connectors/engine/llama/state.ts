// The state of one sequence as llama.cpp writes it to a file: metadata with rows of K and V between them. The rows are found, not read; the
// metadata alone, the frame, says where they lie, so a file can be put together again from its frame and its rows.
//
//   u32 magic, u32 version, u32 tokens, tokens x i32
//   then sections to the end, one a KV cache (a model with sliding windows has two):
//     u32 streams; for each: u32 cells, and unless that is 0:
//       cells x (u32 position, u32 sequences = 1, u32 sequence)
//       u32 is_transposed, u32 layers
//       layers x (u32 type, u64 row bytes, cells x row)                                    K
//       layers x the same                                                                  V, or where it is transposed
//       layers x (u32 type, u32 element bytes, u32 elements, elements x cells x element)   V
import { KvError } from '../../../lib/errors.js';

/** K or V of one layer in a state. */
export interface StatePlane {
  /** Number of ggml's element type. */
  readonly type: number;
  /** Bytes of the row of one cell. */
  readonly rowBytes: number;
  /** Where its rows start in the state. */
  readonly offset: number;
  /** Bytes of an element, where the plane lies transposed: all cells' first elements, then their second ones, and so on. Else 0. */
  readonly transposedBytes: number;
}

/** The cells of one KV cache. */
export interface StateSection {
  /** Position in the sequence of each cell, in the order of the rows. */
  readonly positions: Uint32Array;
  /** K of all layers, then V of all layers. */
  readonly planes: readonly StatePlane[];
}

/** A part of the state's bytes. */
export interface StateSpan {
  readonly offset: number;
  readonly length: number;
}

/** A state whose rows lie where its sections say. */
export interface LlamaState {
  readonly bytes: number;
  readonly tokens: Int32Array;
  readonly sections: readonly StateSection[];
  /** All bytes that are no rows. */
  readonly frame: Uint8Array;
  /** Where the bytes of the frame lie in the state, in order. */
  readonly frameSpans: readonly StateSpan[];
}

/** Reads the bytes of a state; never asked for any beyond its end. */
export interface StateSource {
  readonly bytes: number;
  read(offset: number, length: number): Uint8Array;
}

const MAGIC = 0x67677371; // "ggsq"
const VERSION = 3;
const MAX_STREAMS = 256;
const MAX_LAYERS = 4096;
const CELL_BYTES = 12;

/** Finds the rows in a state. Throws KV_UNSUPPORTED for one that is not of this form to its last byte. */
export function parseState(source: StateSource): LlamaState {
  return parse(source, source.bytes);
}

/** The state of a frame: the same that `parseState` found. Throws KV_UNSUPPORTED as it does. */
export function parseFrame(frame: Uint8Array, stateBytes: number): LlamaState {
  // The rows are missing, so what follows them is found that much earlier than it says.
  let missing = 0;
  const source = { bytes: stateBytes, read: (offset: number, length: number) => frame.subarray(offset - missing, offset - missing + length) };
  const state = parse(source, frame.length, (bytes) => (missing += bytes));
  if (state.frame.length !== frame.length) throw notUnderstood('its frame is of another state');
  return state;
}

/** `metadataBytes` is how much there is of metadata at most. */
function parse(source: StateSource, metadataBytes: number, onRows: (bytes: number) => void = () => undefined): LlamaState {
  const pieces: Uint8Array[] = [];
  const frameSpans: StateSpan[] = [];
  let [offset, taken] = [0, 0];

  function take(length: number): DataView {
    if (length > source.bytes - offset || length > metadataBytes - taken) throw notUnderstood(`it ends at byte ${source.bytes}, inside its metadata`);
    const piece = source.read(offset, length);
    if (piece.length !== length) throw notUnderstood(`it ends inside its metadata, which start at byte ${offset}`);
    const last = frameSpans.at(-1);
    if (last !== undefined && last.offset + last.length === offset) frameSpans.splice(-1, 1, { offset: last.offset, length: last.length + length });
    else frameSpans.push({ offset, length });
    pieces.push(piece);
    offset += length;
    taken += length;
    return new DataView(piece.buffer, piece.byteOffset, length);
  }
  function skip(cells: number, bytesOfCell: number): number {
    const at = offset;
    // Compared by division: the product of two hostile numbers need not be exact.
    if (bytesOfCell === 0 || bytesOfCell > (source.bytes - offset) / cells) throw notUnderstood(`rows of ${bytesOfCell} bytes at byte ${offset} do not fit into it`);
    offset += cells * bytesOfCell;
    onRows(cells * bytesOfCell);
    return at;
  }

  const tokens = parseHead(take);
  const sections: StateSection[] = [];
  while (offset < source.bytes) sections.push(...parseSection(take, skip));
  if (sections.length === 0) throw notUnderstood('it holds no cells');
  return { bytes: source.bytes, tokens, sections, frame: joined(pieces, taken), frameSpans };
}

type Take = (length: number) => DataView;
type Skip = (cells: number, bytesOfCell: number) => number;

function parseHead(take: Take): Int32Array {
  const head = take(12);
  if (head.getUint32(0, true) !== MAGIC) throw notUnderstood('it does not start with the magic of a sequence');
  if (head.getUint32(4, true) !== VERSION) throw notUnderstood(`it is of version ${head.getUint32(4, true)}, not ${VERSION}`);
  const count = head.getUint32(8, true);
  const ids = take(4 * count);
  return Int32Array.from({ length: count }, (_, i) => ids.getInt32(4 * i, true));
}

function parseSection(take: Take, skip: Skip): StateSection[] {
  const streams = take(4).getUint32(0, true);
  if (streams === 0 || streams > MAX_STREAMS) throw notUnderstood(`it has a section of ${streams} streams`);
  const sections: StateSection[] = [];
  for (let stream = 0; stream < streams; stream++) {
    const cells = take(4).getUint32(0, true);
    if (cells > 0) sections.push({ positions: parsePositions(take, cells), planes: parsePlanes(take, skip, cells) });
  }
  return sections;
}

function parsePositions(take: Take, cells: number): Uint32Array {
  const entries = take(CELL_BYTES * cells);
  return Uint32Array.from({ length: cells }, (_, i) => {
    if (entries.getUint32(CELL_BYTES * i + 4, true) !== 1) throw notUnderstood('a cell is not of one sequence');
    return entries.getUint32(CELL_BYTES * i, true);
  });
}

function parsePlanes(take: Take, skip: Skip, cells: number): StatePlane[] {
  const head = take(8);
  const isTransposed = head.getUint32(0, true);
  const layers = head.getUint32(4, true);
  if (isTransposed > 1) throw notUnderstood(`it says ${isTransposed} where 1 means that V is transposed`);
  if (layers === 0 || layers > MAX_LAYERS) throw notUnderstood(`it has a section of ${layers} layers`);
  const planes = Array.from({ length: layers }, () => parseRows(take, skip, cells));
  for (let layer = 0; layer < layers; layer++) planes.push(isTransposed === 1 ? parseTransposed(take, skip, cells) : parseRows(take, skip, cells));
  return planes;
}

function parseRows(take: Take, skip: Skip, cells: number): StatePlane {
  const head = take(12);
  const rowBytes = Number(head.getBigUint64(4, true));
  return { type: head.getUint32(0, true), rowBytes, offset: skip(cells, rowBytes), transposedBytes: 0 };
}

function parseTransposed(take: Take, skip: Skip, cells: number): StatePlane {
  const head = take(12);
  const [type, transposedBytes, elements] = [head.getUint32(0, true), head.getUint32(4, true), head.getUint32(8, true)];
  const rowBytes = transposedBytes * elements;
  return { type, rowBytes, offset: skip(cells, rowBytes), transposedBytes };
}

function joined(pieces: readonly Uint8Array[], bytes: number): Uint8Array {
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

function notUnderstood(why: string): KvError {
  return new KvError('KV_UNSUPPORTED', `the state of llama.cpp is not understood: ${why}`);
}
