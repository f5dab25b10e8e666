import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Processes, not threads: the addon has a worker pool of its own, and a crash of it must end one test file only.
    pool: 'forks',
    testTimeout: 30_000,
    hookTimeout: 30_000,
    watch: false,
  },
});
