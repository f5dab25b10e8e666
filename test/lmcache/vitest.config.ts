import { defineConfig } from 'vitest/config';

// The tests with the real LMCache, apart from the others: they install 1.5 GB of Python packages where those are missing.
export default defineConfig({
  test: {
    include: ['test/lmcache/**/*.live.ts'],
    pool: 'forks',
    testTimeout: 60_000,
    hookTimeout: 900_000,
    watch: false,
  },
});
