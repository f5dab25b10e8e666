// Promises that wait for a test.
import type { CallOptions } from '../../lib/store/connector.js';

/** Never settles but by its signal, as a far end that stopped answering. */
export function hang({ signal }: CallOptions): Promise<never> {
  return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
}

/** A promise and what settles it. */
export function gate(): { readonly open: () => void; readonly opened: Promise<void> } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { open, opened };
}
