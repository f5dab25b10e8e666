import { expect } from 'vitest';
import type { Engine } from './engine.js';

/** Waits until the daemon has all that our connector has to store. */
export async function stored(engine: Engine): Promise<void> {
  for (;;) {
    const { queued_bytes, dropped } = await engine.counts();
    expect(dropped).toBe(0);
    if (queued_bytes === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
