import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { errorData } from '../../../shared/errors.ts'
import { describeError } from '../../../shared/log.ts'
import type { Job } from '../../../workers/process/messages.ts'
import { type ProcessPool, processPool } from '../../../workers/process/pool.ts'
import { spawnTenantProcess } from '../../../workers/process/spawn.ts'
import { hostileSftp, sftpPassword } from '../../support/hostile-sftp.ts'

const password = 'hunter2-but-longer'
let folder = ''
let pool: ProcessPool
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'leaks-'))
  pool = processPool()
})
afterAll(async () => {
  await pool.close()
  await rm(folder, { recursive: true, force: true })
})

const binding = () => ({
  tenant: { id: 'leaky', companyName: 'Leaky', adminEmail: 'admin@example.com' },
  store: { file: join(folder, 'lake.duckdb') },
  filesRoot: join(folder, 'files'),
  workRoot: join(folder, 'work'),
  limits: { memoryBytes: 512 * 2 ** 20, threads: 1, diskBytes: 2 ** 30 },
  allowPrivateNetwork: true,
})
let fence = 0n
const job = (given: Pick<Job, 'psType' | 'settings' | 'secret'>): Job => ({
  id: `job ${++fence}`,
  run: { id: `run_${fence}`, pipelineId: 'test', trigger: 'manual', actor: 'key:test' },
  step: { key: 'step', attempt: 1, cycle: 0, fence },
  values: {},
  ...given,
})

/** All that leaves the process of a job: its result or error, its lines and its standard error. */
async function said(run: (events: Parameters<ProcessPool['run']>[2]) => Promise<unknown>): Promise<string> {
  const parts: string[] = []
  const spy = vi.spyOn(process.stderr, 'write').mockImplementation((text) => parts.push(String(text)) > 0)
  try {
    const note = (...given: unknown[]): void => void parts.push(JSON.stringify(given))
    parts.push(
      await run({ progress: note, log: note }).then(
        (result) => JSON.stringify(result),
        (error: unknown) => `${describeError(error)} ${JSON.stringify(errorData(error))}`,
      ),
    )
  } finally {
    spy.mockRestore()
  }
  return parts.join('\n')
}

/** A PostgreSQL server that asks for the password in clear and answers with it. */
async function echoingPostgres(code: string): Promise<{ port: number; server: Server }> {
  const message = (type: string, body: Buffer): Buffer => {
    const head = Buffer.alloc(5)
    head.write(type)
    head.writeInt32BE(body.length + 4, 1)
    return Buffer.concat([head, body])
  }
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.once('data', () => {
      socket.write(message('R', Buffer.from([0, 0, 0, 3])))
      socket.once('data', (answer) => {
        const given = answer.subarray(5, -1).toString()
        const text = `no role takes ${given}, base64 ${Buffer.from(`loader:${given}`).toString('base64')}, again ${given.slice(0, 12)}`
        socket.end(message('E', Buffer.from(`SFATAL\0C${code}\0M${text}\0D${given}\0\0`)))
      })
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  // A server that listens on TCP has an address of this form.
  return { server, port: (server.address() as AddressInfo).port }
}

test('a PostgreSQL server that repeats the password gets it into no answer, error or line', async () => {
  for (const code of ['42601', '08P01', '28P01']) {
    const { port, server } = await echoingPostgres(code)
    const secret = { host: '127.0.0.1', port, database: 'd', user: 'loader', password, ssl: false }
    for (const given of [
      { psType: 'credential.check', settings: { provider: 'postgres' } },
      {
        psType: 'db.ingest',
        settings: { source: { query: 'SELECT 1' }, destination: { table: 't', mode: 'replace' } },
      },
    ]) {
      const text = await said((events) =>
        pool.run(binding(), job({ ...given, secret }), events, new AbortController().signal),
      )
      expect(text).toMatch(/The server|refused/)
      for (const form of [password, password.slice(0, 12), Buffer.from(`loader:${password}`).toString('base64')])
        expect(text).not.toContain(form)
    }
    server.close()
  }
})

test('nor does an SFTP server that repeats it', async () => {
  await using far = await hostileSftp({ failAt: { byte: 0, message: `${sftpPassword} may not write` } })
  const files = join(folder, 'files')
  await mkdir(files, { recursive: true })
  await writeFile(join(files, 'a.csv'), 'a\n1\n')
  const text = await said((events) =>
    pool.run(
      binding(),
      job({
        psType: 'transfer.sftp_upload',
        settings: { source: { paths: ['a.csv'] }, destination: { directory: '.' } },
        secret: far.secret,
      }),
      events,
      new AbortController().signal,
    ),
  )
  expect(text).toContain('DELIVERY_FAILED')
  expect(text).not.toContain(sftpPassword)
})

test('a process that dies of an exception with the secret in its text says it to nobody', async () => {
  const child = spawnTenantProcess(fileURLToPath(new URL('../../support/crash-child.ts', import.meta.url)))
  await child.bind(binding())
  const text = await said(async (events) => {
    const run = child.run(job({ psType: 'any', settings: {}, secret: { host: 'h', password } }), events)
    await run.catch(() => undefined)
    await child.ended
    return run
  })
  expect(text).toContain('login failed with [redacted]')
  expect(text).toContain('half of a line: [redacted]')
  expect(text).toContain('PROCESS_DIED')
  expect(text).not.toContain(password)
  expect(text).not.toContain(password.slice(5))
})
