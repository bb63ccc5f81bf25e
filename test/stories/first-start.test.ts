import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { leave } from '../support/keep.ts'

const main = fileURLToPath(new URL('../../standalone/main.ts', import.meta.url))
let dataDir = ''
beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'first-start-'))
})
afterAll(() => leave(dataDir))

const environment = (): NodeJS.ProcessEnv => ({
  ...process.env,
  TRIBUTARY_DATA_DIR: dataDir,
  PORT: '0',
  NO_COLOR: '1',
  FORCE_COLOR: '0',
})

/** Runs the command to its end. */
const start = (...args: string[]): Promise<{ code: number; out: string; err: string }> =>
  new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { env: environment() }, (error, out, err) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : error ? 1 : 0, out, err }),
    )
  })

test('the first start delivers files whose bytes on the far end are those it verified, with the counts of the data', async () => {
  const { code, out, err } = await start('--once')
  expect({ code, err }).toEqual({ code: 0, err: '' })
  expect(out).toContain('guru_232342  onboarded: tenant → keys → queues → lake → folders → user → active')
  expect(out).toMatch(/inserted \/ updated \/ deleted \/ unchanged +450 \/ 1,200 \/ 300 \/ 40,549/)
  expect(out).toMatch(/rows in +3,000,000/)
  const delivered = [...out.matchAll(/delivered +(\S+)[^\n]*\n +SHA-256 read back +([0-9a-f]{64})/g)]
  expect(delivered).toHaveLength(3)
  for (const [, path, sha256] of delivered) {
    const tenant = path?.includes('flights') ? 'northwind_air' : 'guru_232342'
    const bytes = readFileSync(join(dataDir, 'partners', tenant, path ?? ''))
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(sha256)
  }
})

test('a second start does not repeat the work, and its printed commands work', async () => {
  const child = spawn(process.execPath, [main], { env: environment(), stdio: ['ignore', 'pipe', 'inherit'] })
  let out = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  try {
    await expect.poll(() => out, { timeout: 60_000 }).toContain('Stays up until Ctrl-C')
    expect(out).toContain('The demo has run in this folder before')
    expect(out).not.toContain('SUCCEEDED')

    const refused = await start()
    expect(refused.code).toBe(1)
    expect(refused.err).toContain(`is in use by process ${child.pid}`)

    const commands = out.split('\n').filter((line) => line.startsWith('curl '))
    expect(commands).toHaveLength(3)
    for (const command of commands) {
      const answer: unknown = JSON.parse(await shell(command))
      expect(answer).toHaveProperty('data')
      expect(answer).not.toHaveProperty('errors')
    }
  } finally {
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
    child.kill('SIGINT')
    expect(await ended).toBe(0)
  }
})

test('a wrong option is refused with the help', async () => {
  const { code, err } = await start('--twice')
  expect(code).toBe(1)
  expect(err).toContain('There is no option --twice')
  expect(err).toContain('npm run demo')
})

const shell = (command: string): Promise<string> =>
  new Promise((resolve, reject) => {
    execFile('sh', ['-c', command], (error, out) => (error ? reject(error) : resolve(out)))
  })
