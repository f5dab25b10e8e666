/** Whether a tier says that its copy is damaged. By the code, not the class: a connector from elsewhere has a KvError of its own. */
export function isCorrupt(failure: unknown): boolean {
  return failure instanceof Error && 'code' in failure && failure.code === 'KV_CORRUPT_OBJECT';
}
