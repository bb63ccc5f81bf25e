import { defineConfig } from 'vitest/config'

const common = { testTimeout: 60_000, hookTimeout: 60_000, pool: 'forks' as const }

/** `npm test` runs `unit` and `stories`; `npm run test:services` runs `services` with the servers that the machine has. */
export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      {
        test: {
          ...common,
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/stories/**', 'test/services/**', 'test/edge/**'],
        },
      },
      {
        test: {
          ...common,
          name: 'stories',
          include: ['test/stories/**/*.test.ts'],
          testTimeout: 180_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          ...common,
          name: 'services',
          include: ['test/services/**/*.test.ts'],
          testTimeout: 180_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
})
