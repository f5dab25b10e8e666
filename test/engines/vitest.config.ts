import { defineConfig } from 'vitest/config';

/** These time engines, which take all cores: nothing else may run. */
const ALONE = ['test/engines/lmcache.live.ts', 'test/engines/connector.live.ts'];

// The tests with real engines, apart from the others: they install 4 GB of Python packages and models where those are missing.
export default defineConfig({
  test: {
    globalSetup: 'test/engines/global-setup.ts',
    pool: 'forks',
    // Two engines at a time: most of their time they start, on one core.
    maxWorkers: 2,
    minWorkers: 1,
    testTimeout: 240_000,
    hookTimeout: 240_000,
    watch: false,
    projects: [
      { extends: true, test: { name: 'together', include: ['test/engines/**/*.live.ts'], exclude: ALONE } },
      // Files of a single process run one by one, after all others.
      { extends: true, test: { name: 'alone', include: ALONE, poolOptions: { forks: { singleFork: true } } } },
    ],
  },
});
