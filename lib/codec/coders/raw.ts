import { tensorBytes } from '../layout.js';
import { nativeCoder } from './native-coder.js';

const SECTION_BYTES = 2 * 1024 * 1024 - 64 * 1024; // kRawSectionBytes in raw.h

/** `raw`: the tensor's bytes as they came, in sections of about 2 MiB. */
export const raw = nativeCoder('raw', {
  refuses: (chunk) => (chunk.rung.name === 'exact' ? undefined : 'it restores every bit, so its only rung is exact'),
  sectionCount: (chunk) => Math.ceil(tensorBytes(chunk.layout) / SECTION_BYTES),
  sectionsOf: (chunk) => Array.from({ length: Math.ceil(tensorBytes(chunk.layout) / SECTION_BYTES) }, (_, i) => i),
});
