import { afterAll, beforeAll, expect, test } from 'vitest'
import { AppError, errorData } from '../../shared/errors.ts'
import { type ControlPlane, controlPlane, type Loose, smallWorker, until } from '../support/control-plane.ts'

let plane: ControlPlane
let a: { id: string; token: string }
let b: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
  b = await plane.tenant()
})
afterAll(() => plane[Symbol.asyncDispose]())

const steps = (more = ''): string => `parameters:
  day: { type: date, default: "2026-01-01" }
${more}steps:
  - { step_id: first, ps_type: file.delete, paths: ["in/{day}"], retry: { attempts: 1 } }
  - { step_id: send, ps_type: transfer.sftp_upload, source: { paths: ["{steps.first.path}"] }, destination: { directory: . } }
`
const ask = async (document: string, variables: object, token = a.token): Promise<Loose> => {
  const { data, errors } = await plane.query(document, { token, variables })
  expect(errors).toEqual([])
  return data.result
}
const save = (path: string, yaml: string) =>
  ask(`mutation ($input: SavePipelineInput!) { result: savePipeline(input: $input) { errors { message } } }`, {
    input: { path, yaml: `pipeline_id: p\n${yaml}` },
  })
const start = (input: object): Promise<Loose> =>
  ask(
    `mutation ($input: RunPipelineInput!) { result: runPipeline(input: $input) { errors { code message }
      run { id state isWaiting concurrencyGroup priority } } }`,
    { input },
  )
const letters = (token = a.token, args = ''): Promise<Loose> =>
  ask(
    `{ result: deadLetters${args} { nodes { runId pipelinePath step { key error { code } } } pageInfo { endCursor hasNextPage } } }`,
    {},
    token,
  )

test('a plan shows what a run would do, and leaves nothing', async () => {
  await save('orders/daily/load', steps())
  const plan = (input: object) =>
    ask(
      `query ($input: RunPipelineInput!) { result: planRun(input: $input) { errors { code path }
        plan { parameters steps { key type queue needs settings hasCredential maxAttempts } } } }`,
      { input },
    )
  const { plan: shown, errors } = await plan({ pipeline: 'orders/daily/load', parameters: { day: '2026-02-03' } })
  expect(errors).toEqual([])
  expect(shown.parameters).toEqual({ day: '2026-02-03' })
  expect(shown.steps).toMatchObject([
    { key: 'first', settings: { paths: ['in/2026-02-03'] }, hasCredential: null, maxAttempts: 1 },
    { key: 'send', needs: ['first'], settings: { source: { paths: ['{steps.first.path}'] } }, hasCredential: false },
  ])
  expect((await plan({ pipeline: 'orders/daily/load', parameters: { day: 'never' } })).errors).toMatchObject([
    { code: 'PARAMETER_INVALID' },
  ])
  expect((await ask(`{ result: runs { nodes { id } } }`, {})).nodes).toEqual([])
})

test('a run too many waits in the group of its pipeline, or is refused', async () => {
  await save('orders/daily/one', steps('concurrency: { group: "{day}", limit: 1 }\n'))
  const first = await start({ pipeline: 'orders/daily/one', priority: 'HIGH' })
  expect(first.run).toMatchObject({ isWaiting: false, concurrencyGroup: '2026-01-01', priority: 1 })
  expect((await start({ pipeline: 'orders/daily/one' })).run).toMatchObject({ isWaiting: true, state: 'QUEUED' })
  const other = await start({ pipeline: 'orders/daily/one', parameters: { day: '2026-01-02' } })
  expect(other.run.isWaiting).toBe(false)
  await save('orders/daily/skip', steps('concurrency: { on_conflict: skip }\n'))
  const kept = await start({ pipeline: 'orders/daily/skip' })
  const refused = await start({ pipeline: 'orders/daily/skip' })
  expect(refused).toMatchObject({ run: null, errors: [{ code: 'CONFLICT' }] })
  expect(refused.errors[0].message).toContain(kept.run.id)
})

test('a failed step is a dead letter until it is run again or discarded, for its tenant alone', async () => {
  const failed = errorData(new AppError('CONNECTION_FAILED', 'No.', { retry: 'never' }))
  await save('orders/daily/bad', steps())
  // Runs that other tests have left waiting fail here as well.
  const ofBad = async (): Promise<Loose[]> =>
    (await letters()).nodes.filter((letter: Loose) => letter.pipelinePath === 'orders/daily/bad')
  {
    await using _worker = smallWorker(plane.ports, () => failed)
    for (const _ of [1, 2, 3]) await start({ pipeline: 'orders/daily/bad' })
    await until('three runs have failed', async () => (await ofBad()).length === 3)
  }
  const all = await ofBad()
  expect(all).toHaveLength(3)
  expect(all[0]).toMatchObject({ step: { key: 'first', error: { code: 'CONNECTION_FAILED' } } })
  const page = await letters(a.token, '(first: 1)')
  expect(page.pageInfo.hasNextPage).toBe(true)
  expect((await letters(a.token, `(after: "${page.pageInfo.endCursor}")`)).nodes).not.toContainEqual(page.nodes[0])
  const discard = (runId: string, token: string) =>
    ask(
      `mutation ($input: DiscardDeadLetterInput!) { result: discardDeadLetter(input: $input) { run { state } errors { code } } }`,
      { input: { runId, stepKey: 'first', reason: 'old' } },
      token,
    )
  const [one] = all
  expect((await discard(one.runId, b.token)).errors).toEqual([{ code: 'NOT_FOUND' }])
  expect(await discard(one.runId, a.token)).toEqual({ run: { state: 'FAILED' }, errors: [] })
  expect((await discard(one.runId, a.token)).errors).toEqual([{ code: 'NOT_FOUND' }])
  expect((await letters()).nodes.map((letter: Loose) => letter.runId)).not.toContain(one.runId)
  expect((await letters(b.token)).nodes).toEqual([])
})
