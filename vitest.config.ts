import { defineConfig } from 'vitest/config'

const common = { testTimeout: 60_000, hookTimeout: 60_000, pool: 'forks' as const }

// Vite would pick graphql's "development" build for our imports, and Node the plain one for those of the libraries: two
// copies whose classes do not know each other. These conditions are those of Node itself.
const ssr = { resolve: { conditions: ['module-sync', 'node'] } }

/** `npm test` runs `unit` and `stories`; `npm run test:services` runs `services` with the servers that the
 * machine has, `npm run test:edge` runs `edge` on Deno and workerd, and `npm run test:clients` runs `clients`, those of others,
 * `npm run test:ducklake` runs `ducklake`, what the lake promises on a DuckLake, and `npm run test:deploy` runs `deploy`, with linters of images and manifests. */
export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      {
        ssr,
        test: {
          ...common,
          name: 'unit',
          globalSetup: ['test/support/template.ts'],
          include: ['test/**/*.test.ts'],
          exclude: [
            'test/stories/**',
            'test/services/**',
            'test/edge/**',
            'test/clients/**',
            'test/deploy/lint.test.ts',
            'test/ducklake/**',
          ],
        },
      },
      {
        ssr,
        test: {
          ...common,
          name: 'stories',
          globalSetup: ['test/support/template.ts'],
          include: ['test/stories/**/*.test.ts'],
          testTimeout: 180_000,
          hookTimeout: 120_000,
        },
      },
      {
        ssr,
        test: {
          ...common,
          name: 'services',
          include: ['test/services/**/*.test.ts'],
          testTimeout: 180_000,
          hookTimeout: 120_000,
        },
      },
      { ssr, test: { ...common, name: 'edge', include: ['test/edge/**/*.test.ts'] } },
      { ssr, test: { ...common, name: 'deploy', include: ['test/deploy/lint.test.ts'] } },
      {
        ssr,
        test: {
          ...common,
          name: 'ducklake',
          include: ['test/workers/{lake,quality,transforms,processors,reader}/**/*.test.ts', 'test/ducklake/*.test.ts'],
          exclude: ['test/workers/processors/{transfer,gcp,notify_systems}/**'],
          testTimeout: 180_000,
        },
      },
      { ssr, test: { ...common, name: 'clients', include: ['test/clients/*.test.ts'] } },
    ],
  },
})
