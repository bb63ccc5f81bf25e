import { createHash } from 'node:crypto'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import templates from '../../schema/templates.json' with { type: 'json' }
import type { Values } from '../../schema/config/variables.ts'
import { catalog } from '../../shared/config/catalog.ts'
import { parsePipeline } from '../../shared/config/parse.ts'
import { findPlaceholders } from '../../shared/config/placeholders.ts'
import { formatProblem } from '../../shared/config/problems.ts'
import { resolveSettings, variableValues } from '../../shared/config/variables.ts'
import { parameterValues } from '../../shared/runs/parameters.ts'
import { planRun } from '../../shared/runs/plan.ts'
import cases from './parameters.json' with { type: 'json' }

const root = join(import.meta.dirname, '../..')
const files = globSync('configs/**/*.{yml,yaml}', { cwd: root }).sort()
const parameters: Record<string, Record<string, unknown>[]> = cases

test('there are pipelines, and each stands where its name can find it', () => {
  expect(files.length).toBeGreaterThan(0)
  for (const file of files) expect(file).toMatch(/^configs(\/[a-z0-9][a-z0-9_-]{0,63}){3}\.yml$/)
})

test.each(files)('%s has no problem, and every run of it can be planned', (file) => {
  const text = readFileSync(join(root, file), 'utf8')
  const parsed = parsePipeline(text, { file })
  expect('problems' in parsed ? parsed.problems.map(formatProblem) : []).toEqual([])
  if (!('pipeline' in parsed)) return
  const steps = planRun(parsed.pipeline)
  expect(steps.length).toBeGreaterThanOrEqual(parsed.pipeline.steps.length)
  for (const given of parameters[file] ?? [{}]) {
    const values = variableValues({
      pipeline: parsed.pipeline,
      builtins: { tenant_id: 'guru_232342', run_id: 'run_1', trigger: 'manual', datetime: '2024-11-02T03:04:05.000Z' },
      profile: { admin_email: 'admin@guru.example', company_name: 'Guru Corp' },
      parameters: parameterValues(parsed.pipeline, given),
    })
    const failure = { step_id: 'extract', code: 'SOURCE_FAILED', message: 'The source broke the read.' }
    for (const step of steps) {
      const resolved = resolveSettings(step.settings, [], { ...values, steps: outputsReadBy(step.settings), failure })
      expect(JSON.stringify(resolved)).not.toMatch(/\{[a-z_]+(\.[a-z_]+)*\}/)
    }
  }
})

test('the templates that the edge serves are the files', () => {
  const served = Object.entries(templates).map(([name, { text, sha256 }]) => [`configs/${name}.yml`, text, sha256])
  const present = files.map((file) => {
    const text = readFileSync(join(root, file), 'utf8')
    return [file, text, createHash('sha256').update(text).digest('hex')]
  })
  expect(served).toEqual(present)
})

test('the catalog of the edge is sorted and names each processor once', () => {
  const types = catalog.map((entry) => entry.type)
  expect(types).toEqual([...new Set(types)].sort())
})

// Whatever a step reads of an earlier one, that one put out: this test is about names, not about processors.
function outputsReadBy(settings: object): Values {
  const outputs: Record<string, Record<string, number>> = {}
  for (const { name } of findPlaceholders(JSON.stringify(settings))) {
    const [first, step = '', output = ''] = name.split('.')
    if (first === 'steps') outputs[step] = { ...outputs[step], [output]: 1 }
  }
  return outputs
}
