/** The stable code of an error (lib/errors.ts), if it has one. By its `code`, not its class: the addon's errors are plain ones. */
export function codeOf(error: unknown): string | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && code.startsWith('KV_') ? code : undefined;
}
