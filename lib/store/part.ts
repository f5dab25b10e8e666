// Which bytes of an object a part of its chunk needs, and what comes of them. Pure.
import { canonicalLayout } from '../codec/layout.js';
import { groupsOf, type ChunkDescription, type Selection } from '../codec/coders/coder.js';
import type { SectionTable } from '../container/object.js';
import type { KvLayout } from '../types.js';
import type { ByteRange } from './connector.js';

/** [begin, end) */
export type Span = readonly [begin: number, end: number];

/** A part of a chunk. Default: all layers, all tokens. */
export interface Part {
  readonly layers?: Span;
  readonly tokens?: Span;
}

/** A part of one chunk, its tokens widened to whole groups. */
export interface PlannedPart {
  readonly selection: Selection;
  /** First token of the part inside the chunk. */
  readonly tokenBegin: number;
  readonly layout: KvLayout;
}

/** Throws a TypeError or RangeError for a part that no chunk of `layers` layers has. */
export function checkPart(part: Part, layers: number): void {
  checkSpan('layers', part.layers, layers);
  checkSpan('tokens', part.tokens, Infinity);
}

/** Throws a RangeError if the chunk ends before the part begins; an end beyond the chunk's is cut. In the chunk's own order only all tokens can be had. */
export function planPart(chunk: ChunkDescription, part: Part, isStoredOrder: boolean): PlannedPart {
  const { layout, groupTokens } = chunk;
  const [layerBegin, layerEnd] = part.layers ?? [0, layout.layers];
  const [first, last] = part.tokens ?? [0, layout.tokens];
  if (first >= layout.tokens) throw new RangeError(`expected \`tokens\` to begin inside the chunk's ${layout.tokens} tokens, got ${first}`);
  const groupBegin = Math.floor(first / groupTokens);
  const groupEnd = Math.min(Math.ceil(last / groupTokens), groupsOf(chunk));
  const tokenBegin = groupBegin * groupTokens;
  const tokens = Math.min(groupEnd * groupTokens, layout.tokens) - tokenBegin;
  return {
    selection: { layerBegin, layerCount: layerEnd - layerBegin, groupBegin, groupCount: groupEnd - groupBegin },
    tokenBegin,
    layout: ofLayers(isStoredOrder ? layout : { ...canonicalLayout(layout), tokens }, layerBegin, layerEnd),
  };
}

/** Byte ranges, counted from the first section, that hold the wanted sections and nothing else; neighbours in one range. */
export function sectionRanges(table: SectionTable, wanted: readonly number[]): ByteRange[] {
  const ranges: { offset: number; length: number }[] = [];
  for (const index of [...new Set(wanted)].sort((a, b) => a - b)) {
    const offset = Number(table[3 * index]);
    const length = Number(table[3 * index + 1]);
    const last = ranges.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length += length;
    else ranges.push({ offset, length });
  }
  return ranges.filter(({ length }) => length > 0);
}

/** The table of the wanted sections, in that order, with offsets into the bytes of `ranges` put one behind the other. */
export function movedTable(table: SectionTable, wanted: readonly number[], ranges: readonly ByteRange[]): SectionTable {
  const moved = new BigUint64Array(3 * wanted.length);
  wanted.forEach((index, i) => {
    const [offset = 0n, length = 0n, checksum = 0n] = table.subarray(3 * index, 3 * index + 3);
    moved.set([BigInt(placeIn(ranges, Number(offset))), length, checksum], 3 * i);
  });
  return moved;
}

// Where a byte offset of the object lies after the ranges were put one behind the other. (Empty sections may lie anywhere.)
function placeIn(ranges: readonly ByteRange[], offset: number): number {
  let before = 0;
  for (const range of ranges) {
    if (offset < range.offset + range.length) return before + Math.max(0, offset - range.offset);
    before += range.length;
  }
  return before;
}

function ofLayers(layout: KvLayout, begin: number, end: number): KvLayout {
  const { rope } = layout;
  const theta = typeof rope?.theta === 'object' && rope.theta.length > 1 ? rope.theta.slice(begin, end) : rope?.theta;
  return { ...layout, layers: end - begin, ...(rope && theta !== undefined && { rope: { ...rope, theta } }) };
}

function checkSpan(name: string, span: Span | undefined, most: number): void {
  if (span === undefined) return;
  if (!Array.isArray(span) || span.length !== 2) throw new TypeError(`expected \`${name}\` to be [begin, end]`);
  const [begin, end] = span;
  if (!Number.isSafeInteger(begin) || !Number.isSafeInteger(end) || begin < 0 || begin >= end || end > most) {
    throw new RangeError(`expected \`${name}\` to be [begin, end) with 0 <= begin < end${most === Infinity ? '' : ` <= ${most}`}, got [${begin}, ${end})`);
  }
}
