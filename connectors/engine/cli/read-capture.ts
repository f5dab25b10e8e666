import { elementBytes } from '../../../lib/codec/layout.js';
import type { KvLayout } from '../../../lib/types.js';
import type { ReadCapture } from '../capture/capture.js';
import type { Screen } from './screen.js';

const SECTION_BYTES = 1_000_000;

/** Tells that a capture will be kept as bytes. */
export function warnIfNotUnderstood(screen: Screen, path: string, { notUnderstood }: ReadCapture): void {
  if (notUnderstood !== undefined) screen.warn(`warning: ${path} is kept as bytes, without reading of parts: ${notUnderstood}`);
}

/** Tokens of one section. Rows of bytes are no tokens, so what was asked for tokens says nothing about them. */
export function sectionTokens({ order, headDim, dtype }: KvLayout, asked: number): number {
  return order === 'bytes' ? Math.ceil(SECTION_BYTES / (headDim * elementBytes(dtype))) : asked;
}
