// How the rows of a state are cut into chunks: by the positions of their tokens, not by the order of cells, which moves when cells are used
// again. So what was stored of earlier turns stays as it is.
import type { Dtype, KvLayout } from '../../../lib/types.js';
import type { LlamaState, StatePlane, StateSection } from './state.js';

/** Rows that are coded together: those of some tokens in some planes of one section. */
export interface PlannedChunk {
  readonly planes: readonly StatePlane[];
  /** Cells of its tokens, in order of their positions; indices into the rows of a plane. */
  readonly cells: Uint32Array;
  /** Cells of the section. */
  readonly sectionCells: number;
  /** Its rows as a tensor: [planes][tokens][row]. */
  readonly layout: KvLayout;
  /** Position of its first token. */
  readonly start: number;
  /** Tokens of the sequence up to its end. */
  readonly end: number;
}

// ggml's numbers of the element types that are floats of ours. A row of any other type, such as q8_0, is coded as bytes.
const FLOATS: ReadonlyMap<number, { readonly dtype: Dtype; readonly bytes: number }> = new Map([
  [0, { dtype: 'f32', bytes: 4 }],
  [1, { dtype: 'f16', bytes: 2 }],
  [30, { dtype: 'bf16', bytes: 2 }],
]);
const MAX_ROW_ELEMENTS = 65536;

/** The chunks of a state, or why its rows cannot be coded as such. Of the same frame they are the same in every process. */
export function planChunks(state: LlamaState, chunkTokens: number): PlannedChunk[] | string {
  const chunks: PlannedChunk[] = [];
  for (const section of state.sections) {
    const runs = chunksOfPositions(section.positions, chunkTokens);
    for (const planes of alike(section)) {
      const layout = layoutOf(planes, planes.length === section.planes.length);
      if (typeof layout === 'string') return layout;
      for (const cells of runs) {
        const start = section.positions[cells[0] ?? 0] ?? 0;
        const end = (Math.floor(start / chunkTokens) + 1) * chunkTokens;
        chunks.push({ planes, cells, sectionCells: section.positions.length, layout: { ...layout, tokens: cells.length }, start, end: Math.min(end, state.tokens.length) });
      }
    }
  }
  return chunks;
}

function chunksOfPositions(positions: Uint32Array, chunkTokens: number): Uint32Array[] {
  const cells = Uint32Array.from(positions.keys()).sort((a, b) => (positions[a] ?? 0) - (positions[b] ?? 0));
  const chunkOf = (index: number): number => Math.floor((positions[cells[index] ?? 0] ?? 0) / chunkTokens);
  const chunks: Uint32Array[] = [];
  for (let begin = 0; begin < cells.length; ) {
    let end = begin + 1;
    while (end < cells.length && chunkOf(end) === chunkOf(begin)) end++;
    chunks.push(cells.subarray(begin, end));
    begin = end;
  }
  return chunks;
}

/** The planes of a section in groups that have rows of one type and length: mostly one group, K and V of all layers. */
function alike({ planes }: StateSection): StatePlane[][] {
  const groups: StatePlane[][] = [];
  for (const plane of planes) {
    const first = groups.at(-1)?.[0];
    if (first?.type === plane.type && first.rowBytes === plane.rowBytes) groups.at(-1)?.push(plane);
    else groups.push([plane]);
  }
  return groups;
}

// K and V of all layers are [2][layers][tokens][row] as they stand in the state; a group of other planes has one plane a layer.
function layoutOf(planes: readonly StatePlane[], isWhole: boolean): Omit<KvLayout, 'tokens'> | string {
  const { type, rowBytes } = planes[0] ?? { type: 0, rowBytes: 0 };
  const float = FLOATS.get(type);
  const [dtype, elementBytes] = float === undefined ? (['u8', 1] as const) : [float.dtype, float.bytes];
  const headDim = rowBytes / elementBytes;
  if (!Number.isInteger(headDim) || headDim > MAX_ROW_ELEMENTS) return `its rows of type ${type} have ${rowBytes} bytes`;
  if (planes.some(({ transposedBytes }) => transposedBytes !== 0 && transposedBytes !== float?.bytes)) return `its V of type ${type} is transposed`;
  return isWhole && planes.length % 2 === 0
    ? { order: 'lmcache_2ltd', dtype, layers: planes.length / 2, kvHeads: 1, headDim }
    : { order: 'mla', dtype, layers: planes.length, kvHeads: 1, headDim };
}
