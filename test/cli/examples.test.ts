import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type TestTenant, world } from '../support/world.ts'

const root = join(import.meta.dirname, '../..')
const page = readFileSync(join(root, 'docs/clients.md'), 'utf8')
const examples = [...page.matchAll(/^## ([^\n]+)$|^```(sh|ts)\n([\s\S]*?)^```$/gm)].reduce<Example[]>(
  (all, [, heading, language, code]) => {
    if (heading) all.push({ heading, parts: [] })
    else if (language && code) all.at(-1)?.parts.push({ language, code })
    return all
  },
  [],
)
type Example = { heading: string; parts: { language: string; code: string }[] }

let house: Awaited<ReturnType<typeof world>>
let tenant: TestTenant & { token?: string }
let folder: string
beforeAll(async () => {
  house = await world()
  tenant = await house.tenant('clients_tenant')
  folder = await mkdtemp(join(tmpdir(), 'examples-'))
})
afterAll(async () => {
  await rm(folder, { recursive: true })
  await house[Symbol.asyncDispose]()
})

async function run(heading: string): Promise<string> {
  const parts = examples.find((example) => example.heading === heading)?.parts ?? []
  const env = {
    ...process.env,
    PATH: `${join(process.execPath, '..')}:${process.env['PATH']}`,
    TRIBUTARY_URL: house.house.url,
    TRIBUTARY_KEY: tenant.token,
    TENANT: tenant.id,
  }
  let output = ''
  for (const [index, { language, code }] of parts.entries()) {
    const file = join(folder, `${index}.ts`)
    if (language === 'ts') await writeFile(file, code.replaceAll(`'./`, `'${pathToFileURL(root).href}/`))
    const [program, args] = language === 'ts' ? [process.execPath, [file]] : ['bash', ['-euc', code]]
    const { stdout } = await promisify(execFile)(program, args, { cwd: root, env })
    output += stdout
  }
  return output
}

test('every part of the page that has code is run here', () => {
  expect(examples.filter(({ parts }) => parts.length > 0).map(({ heading }) => heading)).toEqual([
    'The command',
    'TypeScript',
    'curl',
    'Subscriptions',
  ])
})

test('the command says who asks, saves a pipeline and follows a run to its end', async () => {
  const output = await run('The command')
  expect(output).toContain('"tenantId": "clients_tenant"')
  expect(output.trimEnd().split('\n').at(-1)).toContain('run.succeeded')
})

test('the TypeScript example starts a run and sees its last event', async () => {
  expect((await run('TypeScript')).trimEnd().split('\n').at(-1)).toContain('run.succeeded')
})

test('curl is answered by path and by GraphQL', async () => {
  const output = await run('curl')
  expect(output).toContain('"name":"transform_queue_tenant_clients_tenant"')
  expect(output).toMatch(/"run_id":"run_/)
  expect(output).toContain('"data":{"runs":{"nodes":[{"id":"run_')
})

test('curl follows a run from after its first event', async () => {
  const output = await run('Subscriptions')
  expect(output).not.toMatch(/^id: 1$/m)
  expect(output).toMatch(/^id: 2$/m)
  expect(output).toContain('"type":"run.succeeded"')
  expect(output).toContain('event: complete')
})
