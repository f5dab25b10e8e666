import { defineConfig } from 'vitest/config';

// The tests with real engines, apart from the others: they install 4 GB of Python packages and models where those are missing, and one engine
// takes all cores.
export default defineConfig({
  test: {
    include: ['test/engines/**/*.live.ts'],
    globalSetup: 'test/engines/global-setup.ts',
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 240_000,
    hookTimeout: 240_000,
    watch: false,
  },
});
