import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

/** Counts how late calls settle, to the millisecond: nothing else may want the processor meanwhile. */
const ALONE = 'test/faults/chaos.test.ts';

export default defineConfig({
  test: {
    // Processes, not threads: the addon has a worker pool of its own, and a crash of it must end one test file only.
    pool: 'forks',
    // Three files at once even on two cores: half of them wait for servers and deadlines more than they work.
    maxWorkers: Math.max(3, availableParallelism() - 1),
    minWorkers: 1,
    testTimeout: 30_000,
    hookTimeout: 30_000,
    watch: false,
    projects: [
      { extends: true, test: { name: 'together', include: ['test/**/*.test.ts'], exclude: [ALONE] } },
      // Files of a single process run one by one, after all others.
      { extends: true, test: { name: 'alone', include: [ALONE], poolOptions: { forks: { singleFork: true } } } },
    ],
  },
});
