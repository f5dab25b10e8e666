// A reader of objects written from docs/format.md alone, plain and slow: it shares nothing with the library, so that the page is held to
// what the library does. It reads what our writer wrote and checks nothing. Coders: raw, exact,
// rans, and hevc with a video decoder that is given to it.
import { unpack } from 'msgpackr';

interface Layout {
  order: string;
  dtype: string;
  layers: number;
  tokens: number;
  kv_heads: number;
  head_dim: number;
  rope?: { theta: number[]; style: string; rotary_dims?: number };
}

interface Header {
  layout: Layout;
  start: number;
  coder: string;
  group_tokens: number;
  model: Uint8Array;
  lengths: Uint8Array;
}

/** Reads bytes from front to back. */
class Cursor {
  at = 0;
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }
  get left(): number {
    return this.bytes.length - this.at;
  }
  u8(): number {
    return this.#view.getUint8(this.at++);
  }
  i8(): number {
    return this.#view.getInt8(this.at++);
  }
  u16(): number {
    this.at += 2;
    return this.#view.getUint16(this.at - 2, true);
  }
  i16(): number {
    this.at += 2;
    return this.#view.getInt16(this.at - 2, true);
  }
  u32(): number {
    this.at += 4;
    return this.#view.getUint32(this.at - 4, true);
  }
  take(length: number): Cursor {
    this.at += length;
    return new Cursor(this.bytes.subarray(this.at - length, this.at));
  }
  varint(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.u8();
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
  }
  /** A string of bits, the first one lowest in its byte. */
  bits(count: number, from: { bit: number }): number {
    let value = 0;
    for (let i = 0; i < count; i++, from.bit++) value += ((this.bytes[from.bit >> 3] ?? 0) >> (from.bit & 7) & 1) * 2 ** i;
    return value;
  }
}

type Frequencies = readonly number[];
/** [row][token] */
type Matrix = number[][];

const matrix = (rows: number, columns: number): Matrix => Array.from({ length: rows }, () => Array.from({ length: columns }, () => 0));
const clamp = (value: number, low: number, high: number): number => Math.min(Math.max(value, low), high);
const at = <T>(list: ArrayLike<T>, index: number): T => list[index] as T;

function readFrequencies(in_: Cursor): Frequencies {
  const frequencies = Array.from({ length: 256 }, () => 0);
  const first = in_.u8();
  const count = in_.u8() + 1;
  for (let s = first; s < first + count; s++) frequencies[s] = in_.varint();
  return frequencies;
}

/** A rANS group, and what its states carry. `order` lists the rows; `tableOf` gives a symbol's table. */
function readGroup(in_: Cursor, rows: number, tokens: number, order: readonly number[], tableOf: (row: number, token: number) => Frequencies): { symbols: Matrix; carried: number[] } {
  const states = Array.from({ length: Math.min(8, tokens) }, () => in_.u32());
  const symbols = matrix(rows, tokens);
  for (const row of order) {
    for (let t = 0; t < tokens; t++) {
      const frequencies = tableOf(row, t);
      const x = at(states, t % 8);
      const slot = x % 2048;
      let s = 0;
      let start = 0;
      while (slot >= start + at(frequencies, s)) start += at(frequencies, s++);
      let next = at(frequencies, s) * Math.floor(x / 2048) + slot - start;
      if (next < 65536) next = next * 65536 + in_.u16();
      states[t % 8] = next;
      at(symbols, row)[t] = s;
    }
  }
  if (in_.left !== 0 || states.some((x) => x < 65536 || x > 131071)) throw new Error('a rANS group does not end as it should');
  return { symbols, carried: states.flatMap((x) => [x & 255, (x >> 8) & 255]) };
}

function readByteString(in_: Cursor, length: number): Cursor {
  const string = in_.take(in_.u32());
  const frequencies = readFrequencies(string);
  const { symbols } = readGroup(string, 1, length, [0], () => frequencies);
  return new Cursor(Uint8Array.from(at(symbols, 0)));
}

/** A byte string whose length stands before it. */
function readSizedString(in_: Cursor): Cursor {
  const length = in_.u32();
  return readByteString(in_, length);
}

/** Numbers 0 to count - 1 by key, equal ones in order. */
function sortedBy(count: number, key: (i: number) => number): number[] {
  return Array.from({ length: count }, (_, i) => i).sort((a, b) => key(a) - key(b) || a - b);
}

/** What one layer's group is made of: bit patterns [row][token]. */
type GroupReader = (section: Cursor, layer: number, tokenBegin: number, tokens: number) => Matrix;

const WIDTH: Readonly<Record<string, number>> = { bf16: 2, f16: 2, f32: 4, f8_e4m3: 1, f8_e5m2: 1, u8: 1 };
const planesOf = ({ order }: Layout): number => (order === 'mla' || order === 'bytes' ? 1 : 2);

function exactReader({ layout, model }: Header, rows: number): GroupReader {
  const in_ = new Cursor(model);
  const width = at(Object.entries(WIDTH).filter(([name]) => name === layout.dtype), 0)[1];
  const magnitudeBits = width === 1 ? 7 : 15;
  const hasLowerHalves = in_.u8() === 1;
  const count = in_.u8() + 1;
  const smallest = in_.u16();
  const tables = Array.from({ length: count }, () => ({ shift: in_.u8(), frequencies: readFrequencies(in_) }));
  const channels = rows * layout.layers;
  const table = readByteString(in_, channels).bytes;
  const low = readByteString(in_, channels).bytes;
  const high = readByteString(in_, channels).bytes;

  return (section, layer, _, tokens) => {
    const patterns = matrix(rows, tokens);
    const each = (visit: (row: number, token: number) => void): void => {
      for (let r = 0; r < rows; r++) for (let t = 0; t < tokens; t++) visit(r, t);
    };
    const first = section.varint();
    if (first === 0) {
      each((r, t) => (at(patterns, r)[t] = width === 1 ? section.u8() : width === 2 ? section.u16() : section.u32()));
      return patterns;
    }
    const tableOf = (row: number) => at(tables, at(table, layer * rows + row));
    const lowBytes = Array.from({ length: rows }, (_, r) => Math.ceil((tokens * tableOf(r).shift) / 8));
    const allLow = lowBytes.reduce((a, b) => a + b, 0);
    const carriedBytes = Math.min(allLow, 2 * Math.min(8, tokens));
    const rest = allLow - carriedBytes + 2 * (first - 1) + (hasLowerHalves ? 2 * rows * tokens : 0);
    const order = sortedBy(rows, (r) => at(table, layer * rows + r));
    const { symbols, carried } = readGroup(section.take(section.left - rest), rows, tokens, order, (r) => tableOf(r).frequencies);
    const lowBits = new Cursor(Uint8Array.of(...carried.slice(0, carriedBytes), ...section.take(allLow - carriedBytes).bytes));
    let rowBegin = 0;
    for (let r = 0; r < rows; r++) {
      const { shift } = tableOf(r);
      const channel = layer * rows + r;
      const meanBin = smallest + at(low, channel) + ((at(high, channel) & 127) << 8);
      const place = { bit: 8 * rowBegin };
      for (let t = 0; t < tokens; t++) {
        const symbol = at(at(symbols, r), t);
        const magnitude = (((meanBin - 80 + (symbol >> 1)) * 2 ** shift + lowBits.bits(shift, place)) & (2 ** magnitudeBits - 1)) >>> 0;
        at(patterns, r)[t] = (((symbol & 1) ^ (at(high, channel) >> 7)) << magnitudeBits) | magnitude;
      }
      rowBegin += at(lowBytes, r);
    }
    each((r, t) => {
      if (at(at(symbols, r), t) === 255) at(patterns, r)[t] = section.u16();
    });
    if (width === 4) each((r, t) => (at(patterns, r)[t] = at(at(patterns, r), t) * 65536 + (hasLowerHalves ? section.u16() : 0)));
    return patterns;
  };
}

const FRACTIONS = [1, 1.090507733, 1.189207115, 1.296839555, 1.414213562, 1.542210825, 1.681792831, 1.834008086].map(Math.fround);
const power = (eighths: number): number => {
  const e = clamp(eighths, -960, 960);
  return Math.fround(at(FRACTIONS, e & 7) * 2 ** (e >> 3));
};

/** What `rans` and `hevc` have in common. */
function quantisedPlanes({ layout, start, model }: Header, rows: number) {
  const in_ = new Cursor(model);
  const planes = planesOf(layout);
  const tableCount = in_.u8();
  const cap = tableCount === 0 ? 4 : tableCount - 13;
  const tableBytes = tableCount === 0 ? undefined : readSizedString(in_);
  const tables = Array.from({ length: tableCount }, () => readFrequencies(tableBytes ?? in_));
  const bases = readByteString(in_, 2 * planes * layout.layers);
  const base = Array.from({ length: planes * layout.layers }, () => bases.i16());
  const planeRows = rows / planes;
  const scale = new Array<number>(rows * layout.layers).fill(0);
  for (let plane = 0; plane < planes; plane++) {
    const scales = readByteString(in_, planeRows * layout.layers);
    for (let layer = 0; layer < layout.layers; layer++) {
      const first = layer * rows + plane * planeRows;
      for (let row = 0; row < planeRows; row++) {
        const before = row > 0 ? at(scale, first + row - 1) : 0;
        const neighbours = (before + (row > 1 ? at(scale, first + row - 2) : before)) >> 1;
        const expected = plane === 0 && planes === 2 ? neighbours : at(base, layer * planes + plane) >> 1;
        scale[first + row] = ((scales.i8() + expected) << 24) >> 24;
      }
    }
  }
  const mean = new Array<number>(rows * layout.layers).fill(0);
  for (let plane = 0; plane < planes; plane++) {
    const means = readSizedString(in_);
    for (let layer = 0; layer < layout.layers; layer++) {
      for (let row = 0; row < planeRows; row++) {
        const z = means.varint();
        mean[layer * rows + plane * planeRows + row] = z % 2 === 0 ? z / 2 : -(z + 1) / 2;
      }
    }
  }
  const codes = readByteString(in_, layout.tokens * layout.layers);
  const code = new Array<number>(planes * layout.tokens * layout.layers).fill(0);
  for (let layer = 0; layer < layout.layers; layer++) {
    for (let t = 0; t < layout.tokens; t++) {
      const pair = codes.u8();
      for (let plane = 0; plane < planes; plane++) code[(layer * planes + plane) * layout.tokens + t] = (plane === planes - 1 ? pair & 15 : pair >> 4) - 8;
    }
  }
  const rotation = layout.rope && { ...layout.rope, pairs: (layout.rope.rotary_dims ?? layout.head_dim) / 2 };

  const isKey = (row: number): boolean => planes === 2 && row < rows / 2;
  const planeOf = (layer: number, row: number): number => layer * planes + (planes === 2 && !isKey(row) ? 1 : 0);
  const codeOf = (layer: number, row: number, token: number): number => at(code, planeOf(layer, row) * layout.tokens + token);

  function rowOf(layer: number, row: number) {
    const dim = row % layout.head_dim;
    let e = at(base, planeOf(layer, row));
    const s = at(scale, layer * rows + row);
    if (isKey(row)) {
      const pair = rotation?.style === 'interleaved' ? Math.floor(dim / 2) : dim % (rotation?.pairs ?? 1);
      const frequency = rotation === undefined || dim >= 2 * rotation.pairs ? 0 : 2 - Math.floor((4 * pair) / rotation.pairs);
      e = clamp(e - (s >> 1) + frequency, -960, 960);
    }
    const spread = (2 * s - e) >> 1;
    const lowBits = isKey(row) || spread > cap ? (spread - cap + 3) >> 2 : 0;
    const last = isKey(row) || lowBits > 0 ? spread - 4 * lowBits : clamp(spread, -12, cap);
    const step = power(e);
    return {
      step,
      offset: Math.fround(Math.fround(at(mean, layer * rows + row)) * step),
      lowBits,
      firstTable: clamp((isKey(row) ? spread : last) + 12, 0, 255),
      lastTable: isKey(row) ? clamp(last + 12, 1, cap + 12) : 0,
    };
  }

  /** One group of one layer. */
  return function groupOf(layer: number, begin: number, tokens: number) {
    const all = Array.from({ length: rows }, (_, row) => rowOf(layer, row));
    const bitsOf = (r: number, t: number): number => clamp(at(all, r).lowBits + (isKey(r) ? codeOf(layer, r, begin + t) : 0), 0, 14);
    const exactTokens = start === 0 && begin === 0 ? 1 : 0;
    let lowBits = 0;
    for (let r = 0; r < rows; r++) for (let t = 0; t < tokens; t++) lowBits += bitsOf(r, t);

    function turnForth(values: Matrix): void {
      const { pairs = 0, theta = [], style } = rotation ?? {};
      const frequencyBase = at(theta, theta.length === 1 ? 0 : layer);
      for (let head = 0; head < layout.kv_heads; head++) {
        for (let pair = 0; pair < pairs; pair++) {
          const first = at(values, head * layout.head_dim + (style === 'half' ? pair : 2 * pair));
          const second = at(values, head * layout.head_dim + (style === 'half' ? pair + pairs : 2 * pair + 1));
          for (let t = 0; t < tokens; t++) {
            const angle = (start + begin + t) / frequencyBase ** (pair / pairs);
            const [cosine, sine] = [Math.fround(Math.cos(angle)), Math.fround(Math.sin(angle))];
            const [a, b] = [at(first, t), at(second, t)];
            first[t] = Math.fround(Math.fround(a * cosine) - Math.fround(b * sine));
            second[t] = Math.fround(Math.fround(b * cosine) + Math.fround(a * sine));
          }
        }
      }
    }

    return {
      rows: all,
      isKey,
      tableOf(r: number, t: number): Frequencies {
        const { firstTable, lastTable } = at(all, r);
        return at(tables, isKey(r) ? clamp(firstTable + 4 * codeOf(layer, r, begin + t), 0, lastTable) : firstTable);
      },
      sideBytes: (escapes: number): number => Math.ceil(lowBits / 8) + 2 * escapes + exactTokens * rows * (WIDTH[layout.dtype] ?? 0),
      /** Bit patterns of symbols and side bytes. */
      restore(symbols: Matrix, side: Cursor): Matrix {
        const place = { bit: 0 };
        const values = matrix(rows, tokens);
        for (let r = 0; r < rows; r++) {
          for (let t = 0; t < tokens; t++) {
            const b = bitsOf(r, t);
            at(values, r)[t] = (at(at(symbols, r), t) - 128) * 2 ** b + side.bits(b, place) - (b === 0 ? 0 : 2 ** (b - 1));
          }
        }
        side.at = Math.ceil(lowBits / 8);
        for (let r = 0; r < rows; r++) {
          const { step, offset } = at(all, r);
          for (let t = 0; t < tokens; t++) {
            const q = at(at(symbols, r), t) === 0 ? side.i16() : at(at(values, r), t);
            const tau = power((isKey(r) ? -4 : 4) * codeOf(layer, r, begin + t));
            at(values, r)[t] = Math.fround(offset + Math.fround(Math.fround(q * step) * tau));
          }
        }
        turnForth(values);
        const patterns = values.map((row) => row.map((value) => roundedTo(layout.dtype, value)));
        for (let r = 0; r < rows * exactTokens; r++) at(patterns, r)[0] = side.u16();
        return patterns;
      },
    };
  };
}

function ransReader(header: Header, rows: number): GroupReader {
  const groupOf = quantisedPlanes(header, rows);
  return (section, layer, begin, tokens) => {
    const group = groupOf(layer, begin, tokens);
    const sideBytes = group.sideBytes(section.varint());
    const carriedBytes = Math.min(sideBytes, 2 * Math.min(8, tokens));
    const order = sortedBy(rows, (r) => at(group.rows, r).firstTable);
    const { symbols, carried } = readGroup(section.take(section.left - (sideBytes - carriedBytes)), rows, tokens, order, group.tableOf);
    return group.restore(symbols, new Cursor(Uint8Array.of(...carried.slice(0, carriedBytes), ...section.bytes.subarray(section.at))));
  };
}

/** Shows a stream: its pictures as planar 4:2:0, one after the other. */
export type VideoDecoder = (video: Uint8Array) => Uint8Array;

// The samples of a stream in the order of its values. `side` is the pictures' width and height.
function valuesOf(samples: Uint8Array, side: number): number[] {
  const diagonal = (size: number): (readonly [number, number])[] =>
    Array.from({ length: size * size }, (_, i) => [i % size, Math.floor(i / size)] as const).sort(([x, y], [u, v]) => u + v - x - y || u - x);
  const inLeaf = (size: number) => diagonal(size / 4).flatMap(([bx, by]) => diagonal(4).map(([x, y]) => [4 * bx + x, 4 * by + y] as const));
  const planes = [
    { begin: 0, width: side, leaf: 32, order: inLeaf(32) },
    { begin: side * side, width: side / 2, leaf: 16, order: inLeaf(16) },
    { begin: (side * side * 5) / 4, width: side / 2, leaf: 16, order: inLeaf(16) },
  ];
  const values: number[] = [];
  for (let picture = 0; picture < samples.length; picture += (side * side * 3) / 2) {
    for (let block = 0; block < (side / 64) ** 2; block++) {
      for (let leaf = 0; leaf < 4; leaf++) {
        const column = (block % (side / 64)) * 2 + (leaf % 2);
        const line = Math.floor(block / (side / 64)) * 2 + Math.floor(leaf / 2);
        for (const plane of planes) {
          for (const [x, y] of plane.order) values.push(at(samples, picture + plane.begin + (line * plane.leaf + y) * plane.width + column * plane.leaf + x));
        }
      }
    }
  }
  return values;
}

function readHevc(header: Header, rows: number, sections: readonly Cursor[], decodeVideo: VideoDecoder, place: Place): void {
  const { layout, group_tokens: groupTokens } = header;
  const groupOf = quantisedPlanes(header, rows);
  const most = Math.min(layout.layers, Math.max(1, Math.floor(1572864 / (rows * Math.ceil(groupTokens / 16) * 16))));
  const each = Math.ceil(layout.layers / Math.ceil(layout.layers / most));
  let next = 0;
  for (let begin = 0; begin < layout.tokens; begin += groupTokens) {
    const tokens = Math.min(groupTokens, layout.tokens - begin);
    const run = Math.ceil(tokens / 16) * 16;
    for (let firstLayer = 0; firstLayer < layout.layers; firstLayer += each) {
      const groups = Array.from({ length: Math.min(each, layout.layers - firstLayer) }, (_, i) => groupOf(firstLayer + i, begin, tokens));
      const count = groups.length * rows * run;
      const side = [2048, 1024, 512].find((a) => (a * a * 3) / 2 < count) ?? 256;
      const section = at(sections, next++);
      const values = valuesOf(decodeVideo(section.take(section.varint()).bytes), side);
      const keys = groups.flatMap((group) => group.rows.map(({ firstTable, lastTable }, r) => 24 - Math.min(24, group.isKey(r) && lastTable < firstTable ? lastTable : firstTable)));
      const places = new Map(sortedBy(keys.length, (i) => at(keys, i)).map((row, i) => [row, i * run]));
      groups.forEach((group, i) => {
        const symbols = Array.from({ length: rows }, (_, r) => values.slice(places.get(i * rows + r) ?? 0, (places.get(i * rows + r) ?? 0) + tokens));
        place(firstLayer + i, begin, group.restore(symbols, section.take(group.sideBytes(section.varint()))));
      });
    }
  }
}

/** A float that the type can hold as bits of it, to nearest, ties to even. */
function roundedTo(dtype: string, value: number): number {
  // Below the smallest normal f16 its numbers are the multiples of 2^-24; adding 1.5 * 2^52 rounds to an integer.
  if (dtype === 'f16' && Math.abs(value) < 2 ** -14) return (Object.is(value, -0) || value < 0 ? 0x8000 : 0) | (Math.abs(value) * 2 ** 24 + 1.5 * 2 ** 52 - 1.5 * 2 ** 52);
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, value);
  const bits = view.getUint32(0);
  const dropped = dtype === 'bf16' ? 16 : 13;
  const rounded = Math.floor(((bits & 0x7fffffff) + 2 ** (dropped - 1) - 1 + ((bits >>> dropped) & 1)) / 2 ** dropped);
  return ((bits >>> 31) << 15) | (dtype === 'bf16' ? rounded : rounded - (112 << 10));
}

type Place = (layer: number, begin: number, patterns: Matrix) => void;

/** The tensor of an object, canonical: [layers][planes][kv_heads][tokens][head_dim]. Of raw objects the bytes as they are. */
export function readBySpecification(object: Uint8Array, decodeVideo?: VideoDecoder): Uint8Array {
  const preamble = new Cursor(object.subarray(0, 32));
  preamble.at = 8;
  const headerBytes = preamble.u32();
  const header = unpack(object.subarray(32, 32 + headerBytes)) as Header;
  const body = new Cursor(object.subarray(32 + headerBytes));
  if (header.coder === 'raw') return body.bytes;

  const { layout, group_tokens: groupTokens } = header;
  const width = WIDTH[layout.dtype] ?? 0;
  const rows = planesOf(layout) * layout.kv_heads * layout.head_dim;
  const tensor = new Uint8Array(layout.layers * rows * layout.tokens * width);
  const place: Place = (layer, begin, patterns) => {
    patterns.forEach((row, r) => {
      const head = Math.floor(r / layout.head_dim);
      row.forEach((pattern, t) => {
        const element = ((layer * (rows / layout.head_dim) + head) * layout.tokens + begin + t) * layout.head_dim + (r % layout.head_dim);
        for (let byte = 0; byte < width; byte++) tensor[element * width + byte] = Math.floor(pattern / 2 ** (8 * byte));
      });
    });
  };

  const lengths = new Cursor(header.lengths);
  const sections = Array.from({ length: header.lengths.length / 4 }, () => body.take(lengths.u32()));
  if (header.coder === 'hevc') {
    if (decodeVideo === undefined) throw new Error('hevc needs a decoder');
    readHevc(header, rows, sections, decodeVideo, place);
    return tensor;
  }
  const readSection = header.coder === 'exact' ? exactReader(header, rows) : ransReader(header, rows);
  const groups = Math.ceil(layout.tokens / groupTokens);
  sections.forEach((section, i) => {
    const [layer, begin] = [Math.floor(i / groups), (i % groups) * groupTokens];
    place(layer, begin, readSection(section, layer, begin, Math.min(groupTokens, layout.tokens - begin)));
  });
  return tensor;
}
