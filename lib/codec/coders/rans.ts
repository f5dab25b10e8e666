import { groupsOf } from './coder.js';
import { nativeCoder, refuseToQuantise } from './native-coder.js';
import { layerSections } from './sections.js';

/** `rans`: quantised planes (addon/codec/quantized.h), entropy-coded with rANS. One section a layer and group of tokens. */
export const rans = nativeCoder('rans', {
  hasModel: true,
  refuses: refuseToQuantise,
  sectionCount: (chunk) => chunk.layout.layers * groupsOf(chunk),
  sectionsOf: layerSections,
});
