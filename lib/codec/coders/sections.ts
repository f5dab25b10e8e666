import { groupsOf, type ChunkDescription, type Selection } from './coder.js';

/** Indices of a selection's sections where sections are ordered by layer, then by group. */
export function layerSections(chunk: ChunkDescription, selection: Selection): number[] {
  const groups = groupsOf(chunk);
  const indices: number[] = [];
  for (let layer = 0; layer < selection.layerCount; layer++) {
    for (let group = 0; group < selection.groupCount; group++) {
      indices.push((selection.layerBegin + layer) * groups + selection.groupBegin + group);
    }
  }
  return indices;
}
