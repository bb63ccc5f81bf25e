import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runCommand } from '../../cli/main.ts'
import { type HttpServer, serveHttp } from '../../standalone/http-server.ts'
import { type ControlPlane, controlPlane, smallWorker } from '../support/control-plane.ts'

let plane: ControlPlane
let server: HttpServer
let token: string
beforeAll(async () => {
  plane = await controlPlane()
  server = await serveHttp(plane.app, { host: '127.0.0.1', port: 0, log: plane.ports.log })
  token = (await plane.tenant()).token
})
afterAll(async () => {
  await server.stop()
  await plane[Symbol.asyncDispose]()
})

async function command(argv: string[], given: { env?: Record<string, string>; stdin?: string } = {}) {
  const out: string[] = []
  const err: string[] = []
  const code = await runCommand(argv, {
    env: { TRIBUTARY_URL: server.url, TRIBUTARY_KEY: token, ...given.env },
    stdin: Readable.from([given.stdin ?? '']),
    out: (line) => out.push(line),
    err: (line) => err.push(line),
  })
  return { code, out: out.join('\n'), err: err.join('\n') }
}

const yaml =
  'pipeline_id: one\nsteps:\n  - step_id: one\n    ps_type: sql.transform\n    query: SELECT 1 AS n\n    destination: { table: one }\n'

test('it prints what an operation answers, with variables from the line, standard input or a file', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cli-'))
  const file = join(folder, 'variables.json')
  const variables = JSON.stringify({ input: { path: 'test/cli/main', yaml } })
  await writeFile(file, variables)
  for (const [json, stdin] of [[variables], ['-', variables], [`@${file}`]] as const) {
    const { code, out } = await command(['save-pipeline', '--json', json], { stdin: stdin ?? '' })
    expect(code).toBe(0)
    expect(JSON.parse(out)).toMatchObject({ savePipeline: { pipeline: { path: 'test/cli/main' }, errors: [] } })
  }
  await rm(folder, { recursive: true })
})

test('it follows a run to its end and exits as the run did', async () => {
  const run = ['run-pipeline', '--json', '{"input": {"pipeline": "test/cli/main"}}', '--watch']
  await using worker = smallWorker(plane.ports)
  const good = await command(run)
  expect(good).toMatchObject({ code: 0, out: expect.stringMatching(/run\.succeeded[^\n]*$/) })
  await worker[Symbol.asyncDispose]()
  await using _failing = smallWorker(plane.ports, () => ({
    code: 'SQL_INVALID',
    message: 'no',
    hint: 'no',
    retry: 'never',
  }))
  const bad = await command(run)
  expect(bad).toMatchObject({ code: 1, out: expect.stringMatching(/run\.failed[^\n]*$/) })
})

test('a key for once does a thing once', async () => {
  const run = ['run-pipeline', '--json', '{"input": {"pipeline": "test/cli/main"}}', '--once', 'today']
  const [first, second] = [await command(run), await command(run)]
  expect(JSON.parse(first.out).runPipeline).toMatchObject({ created: true })
  expect(JSON.parse(second.out).runPipeline).toMatchObject({
    created: false,
    run: { id: JSON.parse(first.out).runPipeline.run.id },
  })
})

test('refusals are printed and exit with 1, errors with code, request and hint', async () => {
  const refused = await command(['cancel-run', '--json', '{"input": {"id": "run_0"}}'])
  expect(refused).toMatchObject({ code: 1, out: expect.stringContaining('"NOT_FOUND"') })
  const stranger = await command(['viewer'], { env: { TRIBUTARY_KEY: 'key_0.0' } })
  expect(stranger).toMatchObject({
    code: 1,
    out: '',
    err: expect.stringMatching(/^UNAUTHENTICATED: .* \(req_\w+\)\nSend a valid API key/),
  })
  const wrong = await command(['run-pipeline', '--json', '{"input": {}}'])
  expect(wrong).toMatchObject({ code: 1, err: expect.stringContaining('BAD_INPUT') })
  const nowhere = await command(['viewer'], { env: { TRIBUTARY_URL: 'http://127.0.0.1:1' } })
  expect(nowhere).toMatchObject({ code: 1, err: expect.stringContaining('TRIBUTARY_URL says where') })
})

test.each([
  [['run-pipelin'], 'Did you mean run-pipeline?'],
  [['viewer', 'runs'], 'what is runs?'],
  [['viewer', '--json', '{'], '--json is no JSON'],
  [['viewer', '--json', '[]'], '--json takes an object'],
  [['viewer', '--json', '@/nowhere'], 'ENOENT'],
  [['viewer', '--jsn', '{}'], "'--jsn'"],
  [[], 'Operations:'],
])('%j is not usable, and it says why', async (argv, why) => {
  expect(await command(argv)).toMatchObject({ code: 2, out: '', err: expect.stringContaining(why) })
})

test('without a key it says where one goes, but for signing in', async () => {
  const env = { TRIBUTARY_KEY: '' }
  expect(await command(['viewer'], { env })).toMatchObject({ code: 2, err: expect.stringContaining('TRIBUTARY_KEY') })
  const login = await command(
    ['login', '--json', '{"input": {"tenantId": "tenant_1", "email": "a@b.example", "password": "none of it"}}'],
    { env },
  )
  expect(login).toMatchObject({ code: 1, err: expect.stringContaining('UNAUTHENTICATED') })
})

test('help lists every operation, and of one shows what it takes', async () => {
  expect(await command(['--help'])).toMatchObject({
    code: 0,
    out: expect.stringContaining('run-pipeline        Starts a run.'),
  })
  expect(await command(['run-events', '--help'])).toMatchObject({
    code: 0,
    out: expect.stringContaining(`--json '{"runId": …}'`),
  })
})
