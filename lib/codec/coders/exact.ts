import { groupsOf } from './coder.js';
import { nativeCoder } from './native-coder.js';
import { layerSections } from './sections.js';

/** `exact`: the float's own bits, losslessly; addon/codec/exact.h says how. One section a layer and group of tokens. */
export const exact = nativeCoder('exact', {
  hasModel: true,
  refuses: (chunk) => (chunk.rung.name === 'exact' ? undefined : 'it restores every bit, so its only rung is exact'),
  sectionCount: (chunk) => chunk.layout.layers * groupsOf(chunk),
  sectionsOf: layerSections,
});
