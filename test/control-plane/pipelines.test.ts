import { afterAll, beforeAll, expect, test } from 'vitest'
import { type ControlPlane, controlPlane, type Loose } from '../support/control-plane.ts'

let plane: ControlPlane
let a: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
})
afterAll(() => plane[Symbol.asyncDispose]())

const text = (path: string): string => `pipeline_id: p
steps:
  - step_id: only
    ps_type: file.delete
    paths: ["${path}"]
`
const errors = 'errors { __typename code message hint path ... on ValidationError { problem file line column } }'
const validate = async (yaml: string): Promise<Loose> =>
  (
    await plane.query(
      `mutation ($input: ValidatePipelineInput!) { validatePipeline(input: $input) { isValid steps { key type queue needs } warnings { message } ${errors} } }`,
      { token: a.token, variables: { input: { yaml, file: 'mine.yml' } } },
    )
  ).data.validatePipeline
const save = async (path: string, yaml: string, token = a.token): Promise<Loose> =>
  (
    await plane.query(
      `mutation ($input: SavePipelineInput!) { savePipeline(input: $input) { created pipeline { id version yaml sha256 } ${errors} } }`,
      { token, variables: { input: { path, yaml } } },
    )
  ).data.savePipeline

test('a good file is told what it would run, and nothing is stored', async () => {
  expect(await validate(text('in/x'))).toEqual({
    isValid: true,
    steps: [{ key: 'only', type: 'file.delete', queue: 'EXPORT', needs: [] }],
    warnings: [],
    errors: [],
  })
  expect((await plane.query('{ pipelines { nodes { path } } }', a)).data.pipelines.nodes).toEqual([])
})

test('every fault of a file comes back at once, each with its place', async () => {
  const result = await validate(
    'pipeline_id: p\nstpes: []\nsteps:\n  - step_id: only\n    ps_type: file.delte\n    paths: ["a"]\n',
  )
  expect(result.isValid).toBe(false)
  expect(result.errors).toMatchObject([
    {
      __typename: 'ValidationError',
      code: 'CONFIG_INVALID',
      problem: 'UNKNOWN_KEY',
      file: 'mine.yml',
      line: 2,
      column: 1,
    },
    {
      __typename: 'ValidationError',
      problem: 'UNKNOWN_PS_TYPE',
      line: 5,
      message: expect.stringContaining('file.delete'),
    },
  ])
  expect((await validate('a: [')).errors[0]).toMatchObject({ problem: 'YAML_SYNTAX', line: 1 })
})

test('a saved file gets versions, and the same text none', async () => {
  const first = await save('my/own/pipe', text('a'))
  expect(first).toMatchObject({ created: true, errors: [], pipeline: { version: 1, yaml: text('a') } })
  expect(await save('my/own/pipe', text('a'))).toMatchObject({ created: false, pipeline: { version: 1 } })
  const second = await save('my/own/pipe', text('b'))
  expect(second).toMatchObject({ created: true, pipeline: { id: first.pipeline.id, version: 2, yaml: text('b') } })
  expect(await save('my/own/pipe', text('a'))).toMatchObject({ created: true, pipeline: { version: 3 } })
})

test('ten saves at once give ten versions without a gap', async () => {
  const saved = await Promise.all(Array.from({ length: 10 }, (_, i) => save('my/busy/pipe', text(`f${i}`))))
  const { data } = await plane.query('{ pipeline(path: "my/busy/pipe") { version } }', a)
  expect(saved.flatMap((result) => result.errors)).toEqual([])
  expect(data.pipeline.version).toBe(10)
})

test('a faulty file and a reserved path are refused and store nothing', async () => {
  expect(await save('my/bad/pipe', 'steps: []')).toMatchObject({ pipeline: null, created: false })
  for (const path of ['system/tenant/provision', 'two/parts', '../../etc', 'a/b/c/d', 'A/b/c', 'a/b/c\n'])
    expect((await save(path, text('a'))).errors).toMatchObject([{ code: 'BAD_INPUT', path: ['path'] }])
  expect((await plane.query('{ pipeline(path: "my/bad/pipe") { version } }', a)).data.pipeline).toBeNull()
})
