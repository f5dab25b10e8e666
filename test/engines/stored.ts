import { expect } from 'vitest';
import type { Engine } from './engine.js';
import { until } from './until.js';

/** Whether the daemon has all that our connector had to store. */
export async function isAllStored(engine: Engine): Promise<boolean> {
  const { queued_bytes, dropped } = await engine.counts();
  expect(dropped).toBe(0);
  return queued_bytes === 0;
}

/** Waits until it has. */
export const stored = (engine: Engine): Promise<void> => until(() => isAllStored(engine));
