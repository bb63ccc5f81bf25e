import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { bundleFaults, importFaults, wallFaults } from '../../scripts/walls.ts'

const repository = join(import.meta.dirname, '../..')
let root: string

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'walls-'))
  await symlink(join(repository, 'node_modules'), join(root, 'node_modules'))
})
afterEach(() => rm(root, { recursive: true }))

async function plant(files: Record<string, string>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), text)
  }
}

test('all walls of this repository stand', async () => {
  expect(await wallFaults(repository)).toEqual([])
})

test.each([
  ['schema/a.ts', "import type { B } from '../shared/b.ts'", '../shared/b.ts: a wall stands between them'],
  ['shared/a.ts', "export { b } from '../workers/b.ts'", '../workers/b.ts: a wall stands between them'],
  ['shared/a.ts', "export * from '../control-plane/b.ts'", '../control-plane/b.ts: a wall stands between them'],
  ['shared/a.ts', "import { readFile } from 'node:fs/promises'", 'node:fs/promises: this room runs without Node'],
  [
    'control-plane/runs/a.ts',
    "const b = await import('../../workers/b.ts')",
    '../../workers/b.ts: a wall stands between them',
  ],
  ['control-plane/tenants/a.ts', "import '../runs/b.ts'", '../runs/b.ts: a domain imports earlier domains only'],
  [
    'control-plane/audit/a.ts',
    "import type { T } from '../tenants/b.ts'",
    '../tenants/b.ts: a domain imports earlier domains only',
  ],
  ['workers/a.ts', "import { b } from '../control-plane/b.ts'", '../control-plane/b.ts: a wall stands between them'],
  [
    'workers/processors/db/a.ts',
    "import b from '../file/b.ts'",
    '../file/b.ts: a processor imports no other processor',
  ],
  ['cli/a.ts', "import { b } from '../shared/runs/b.ts'", '../shared/runs/b.ts: a wall stands between them'],
  ['console/a.tsx', "import 'node:fs'\nexport const A = () => <p>a</p>", 'node:fs: this room runs without Node'],
])('%s: %s', async (file, text, fault) => {
  await plant({ [file]: text })
  expect(await importFaults(root)).toEqual([`${file} imports ${fault}`])
})

test.each([
  ['shared/a.ts', "import { jwtVerify } from 'jose'", 'jwtVerify'],
  ['workers/a.ts', "import { SignJWT, jwtDecrypt as sign } from 'jose'", 'jwtDecrypt'],
  ['control-plane/a.ts', "import * as jose from 'jose'", '*'],
  ['standalone/a.ts', "export { compactVerify } from 'jose'", 'compactVerify'],
  ['control-plane/a.ts', "export * from 'jose/jwt/verify'", '*'],
  ['workers/a.ts', "const { jwtVerify } = await import('jose')", '*'],
])('%s: %s verifies tokens beside the verifier', async (file, text, name) => {
  await plant({ [file]: text })
  expect(await importFaults(root)).toEqual([
    `${file} takes ${name} from jose: only shared/auth/verify-token.ts reads tokens`,
  ])
})

test('the verifier verifies, and others sign', async () => {
  await plant({
    'shared/auth/verify-token.ts': "import { jwtVerify } from 'jose'",
    'workers/a.ts': "import { importPKCS8, SignJWT, type JWTPayload } from 'jose'",
  })
  expect(await importFaults(root)).toEqual([])
})

test('what the rooms allow is no fault, nor is text that only looks like an import', async () => {
  await plant({
    'schema/a.ts': "import './b.ts'\n// import '../workers/x.ts'\nexport const text = `import '../workers/y.ts'`",
    'shared/a.ts': "import '../schema/a.ts'\nimport { z } from 'zod'",
    'control-plane/runs/a.ts': "import '../tenants/a.ts'\nimport '../audit/a.ts'\nimport '../graphql/builder.ts'",
    'control-plane/graphql/schema.ts': "import '../runs/a.ts'",
    'workers/processors/index.ts': "import './db/a.ts'",
    'workers/processors/db/a.ts': "import 'node:fs'\nimport '../../define.ts'",
    'cli/a.ts': "import '../shared/errors.ts'\nimport 'node:fs'",
    'standalone/a.ts': "import '../workers/a.ts'\nimport '../control-plane/a.ts'",
  })
  expect(await importFaults(root)).toEqual([])
})

test('the bundle of the edge shows what comes in by a detour', async () => {
  await plant({
    'control-plane/edge.ts':
      "import { a } from '../shared/a.ts'\nexport default { fetch: () => new Response(String(a)) }",
    'shared/a.ts': "import { b } from '../workers/b.ts'\nexport const a = b",
    'workers/b.ts': "import { hostname } from 'node:os'\nexport const b = hostname()",
  })
  expect(await bundleFaults(root, join(root, 'control-plane/edge.ts'))).toEqual([
    'the edge bundle holds workers/b.ts',
    'the edge bundle imports node:os (workers/b.ts)',
  ])
})

test('the reader of pipelines bundles for the edge', async () => {
  const entry = join(repository, 'shared/config/parse.ts')
  expect(await bundleFaults(repository, entry)).toEqual([])
})

test('an edge that does not bundle is a fault', async () => {
  await plant({ 'control-plane/edge.ts': "import './missing.ts'" })
  expect((await wallFaults(root)).join()).toContain('the edge does not bundle')
})
