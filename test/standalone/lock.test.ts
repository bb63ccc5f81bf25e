import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { lockFolder } from '../../standalone/lock.ts'

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lock-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const bootId = async (): Promise<string> =>
  (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => 'unknown')).trim()
const leave = async (holder: object): Promise<void> =>
  writeFile(join(folder, 'lock.json'), JSON.stringify({ startedAt: '2026-01-01', ...holder }))

test('a folder that a living process holds is refused, by its number', async () => {
  const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
  await once(other, 'spawn')
  await leave({ pid: other.pid, boot: await bootId() })
  await expect(lockFolder(folder)).rejects.toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining(`process ${other.pid}`),
  })
  other.kill('SIGKILL')
  await once(other, 'exit')
  using _ = await lockFolder(folder)
})

test('what a process of another boot, or nobody, left behind is taken over', async () => {
  for (const left of [JSON.stringify({ pid: 1, boot: 'another boot', startedAt: '2026-01-01' }), 'half a fi']) {
    await writeFile(join(folder, 'lock.json'), left)
    using _ = await lockFolder(folder)
    expect(await readFile(join(folder, 'lock.json'), 'utf8')).toContain(`"pid":${process.pid}`)
  }
})

test('a lock that is given back can be taken', async () => {
  const first = await lockFolder(folder)
  first[Symbol.dispose]()
  await expect(readFile(join(folder, 'lock.json'))).rejects.toThrow('ENOENT')
  using _ = await lockFolder(folder)
})
