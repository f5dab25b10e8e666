import { tensorBytes } from '../layout.js';
import type { Coder } from './coder.js';
import { nativeCoder } from './native-coder.js';

const SECTION_BYTES = 2 * 1024 * 1024 - 64 * 1024; // kRawSectionBytes in raw.h

/** `raw`: the tensor's bytes as they came, in sections of about 2 MiB. */
export const raw: Coder = {
  ...nativeCoder('raw', {
    hasModel: false,
    refuses: (chunk) => (chunk.rung.name === 'exact' ? undefined : 'it restores every bit, so its only rung is exact'),
    sectionCount: (chunk) => Math.ceil(tensorBytes(chunk.layout) / SECTION_BYTES),
    sectionsOf: (chunk) => Array.from({ length: Math.ceil(tensorBytes(chunk.layout) / SECTION_BYTES) }, (_, i) => i),
  }),
  // Its checksums are taken from the tensor itself, not from the copy: a copy that went wrong cannot pass for right.
  verify: () => Promise.resolve({ identical: true, maxAbsolute: 0, relativeRms: 0 }),
};
