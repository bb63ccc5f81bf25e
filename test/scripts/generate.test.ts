import { spawnSync } from 'node:child_process'
import { cp, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { catalogOf, editorSchema } from '../../scripts/generate.ts'
import { defineProcessor } from '../../workers/define.ts'
import { sampleCatalog } from '../shared/config/sample-catalog.ts'

const root = join(import.meta.dirname, '../..')

// In a process of its own, as `npm run check` does it.
const check = (folder: string) =>
  spawnSync(process.execPath, [join(folder, 'scripts/generate.ts'), '--check'], { encoding: 'utf8' })

test('what is checked in is what the sources say', () => {
  expect(check(root)).toMatchObject({ stderr: '', status: 0 })
})

test('a changed pipeline makes its file stale, by name, until it is generated again', async () => {
  const copy = await mkdtemp(join(tmpdir(), 'generate-'))
  try {
    for (const folder of ['schema', 'shared', 'workers', 'configs', 'control-plane', 'scripts', 'docs'])
      await cp(join(root, folder), join(copy, folder), {
        recursive: true,
        filter: (path) => !path.includes('node_modules'),
      })
    await cp(join(root, 'package.json'), join(copy, 'package.json'))
    await symlink(join(root, 'node_modules'), join(copy, 'node_modules'))
    await writeFile(join(copy, 'configs/gcp/cost/cost_billing.yml'), 'pipeline_id: other\n')
    expect(check(copy)).toMatchObject({ stderr: 'schema/templates.json is stale: run npm run generate\n', status: 1 })
    spawnSync(process.execPath, [join(copy, 'scripts/generate.ts')])
    expect(check(copy)).toMatchObject({ stderr: '', status: 0 })
  } finally {
    await rm(copy, { recursive: true })
  }
})

test('the catalog closes objects, keeps SQL marks and drops bounds that say nothing', () => {
  const entry = defineProcessor({
    type: 'x.y',
    title: 'X',
    description: 'Does x.',
    queue: 'ingest',
    credentialProviders: ['sftp'],
    settings: z.object({ query: z.string().meta({ 'x-sql': true }), n: z.int().default(3), any: z.looseObject({}) }),
    run: () => Promise.resolve({ outputs: {} }),
  })
  expect(catalogOf([entry])[0]?.settings).toMatchObject({
    properties: {
      query: { type: 'string', 'x-sql': true },
      n: { default: 3, type: 'integer' },
      any: { type: 'object' },
    },
    required: ['query', 'any'],
    additionalProperties: false,
  })
  expect(JSON.stringify(catalogOf([entry]))).not.toContain(String(Number.MAX_SAFE_INTEGER))
})

const form = z.fromJSONSchema(editorSchema(sampleCatalog))
const accepts = (text: string): boolean => form.safeParse(parse(text)).success
const file = (step: string): string => `pipeline_id: p\nsteps:\n  - { step_id: a, ${step} }`

test.each([
  'ps_type: quality.check, table: t, rules: [{ rule: not_null, column: c }]',
  'ps_type: quality.check, table: "{t}", rules: [{ rule: range, column: c, min: "{n}" }], timeout: 5m, depends_on: [b]',
  'ps_type: db.load, source: { query: SELECT 1 }, destination: { table: t, mode: "{mode}", business_key: "{keys}" }',
])('an editor takes %s', (step) => {
  expect(accepts(file(step))).toBe(true)
})

test.each([
  'ps_type: quality.chek, table: t, rules: [{ rule: not_null, column: c }]',
  'ps_type: quality.check, tabel: t, rules: [{ rule: not_null, column: c }]',
  'ps_type: quality.check, table: t, rules: [{ rule: range, column: c, min: many }]',
  'ps_type: quality.check, table: t, rules: [{ rule: not_null, column: c }], timeout: 5',
  'ps_type: db.load, source: { query: SELECT 1 }, destination: { table: t, mode: apend }',
])('an editor marks %s', (step) => {
  expect(accepts(file(step))).toBe(false)
})
