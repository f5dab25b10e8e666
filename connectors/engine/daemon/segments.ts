import { KvError } from '../../../lib/errors.js';
import type { SegmentRange } from './requests.js';

/** Memory of a segment that a call works in. */
export interface SegmentUse {
  readonly bytes: Uint8Array;
  release(): void;
}

/** Memory that clients share with the daemon. */
export interface Segments {
  /** `length` bytes of a segment. Throws KV_STALE_SEGMENT, or KV_INVALID_INPUT for a range that it does not have. */
  use(range: SegmentRange, length: number): SegmentUse;
}

export function makeSegments(): Segments {
  return {
    use({ id }) {
      throw new KvError('KV_STALE_SEGMENT', `there is no segment ${JSON.stringify(id)}`);
    },
  };
}
