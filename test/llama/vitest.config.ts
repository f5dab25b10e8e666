import { defineConfig } from 'vitest/config';

// The tests with the real node-llama-cpp, apart from the others: they download 0.4 GB of packages and models where those are missing.
export default defineConfig({
  test: {
    include: ['test/llama/**/*.live.ts'],
    pool: 'forks',
    testTimeout: 120_000,
    hookTimeout: 900_000,
    watch: false,
  },
});
