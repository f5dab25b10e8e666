import { defineConfig } from 'vitest/config';

// The tests with the real LMCache, apart from the others: they install 1.5 GB of Python packages where those are missing.
export default defineConfig({
  test: {
    include: ['test/lmcache/**/*.live.ts'],
    globalSetup: 'test/lmcache/global-setup.ts',
    pool: 'forks',
    // Python that starts and imports takes most of the time, and one core.
    maxWorkers: 2,
    minWorkers: 1,
    testTimeout: 60_000,
    hookTimeout: 300_000,
    watch: false,
  },
});
