/** What the end frame of a call says. */
export interface CallSummary {
  hits: number;
  misses: number;
  failed: number;
  /** Of the tensors that were moved. */
  raw_bytes: number;
  /** Read of their objects, or stored for them. */
  stored_bytes: number;
  ms: number;
}

/** Counts from now on; `take` gives what was counted. */
export function countCall(): { readonly counts: CallSummary; take(): CallSummary } {
  const begin = performance.now();
  const counts: CallSummary = { hits: 0, misses: 0, failed: 0, raw_bytes: 0, stored_bytes: 0, ms: 0 };
  return { counts, take: () => ({ ...counts, ms: Math.round((performance.now() - begin) * 1000) / 1000 }) };
}
