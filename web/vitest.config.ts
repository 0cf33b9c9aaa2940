import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: [
      // Some wait for another program, which a busy machine may delay.
      { test: { name: 'unit', include: ['src/**/*.test.ts'], testTimeout: 60_000 } },
      {
        test: {
          name: 'e2e',
          include: ['e2e/**/*.test.ts'],
          // One browser and one service at a time: the machine's cores belong to the networks.
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 60_000,
        },
      },
      { test: { name: 'screenshots', include: ['e2e/screenshots.ts'], testTimeout: 600_000, hookTimeout: 60_000 } },
    ],
  },
});
