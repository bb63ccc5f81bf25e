import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { access, constants, readFile, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { areFilesEncrypted } from '../../workers/lake/tenant-store.ts'
import { type Check, fail, type Finding, ok, warn } from './finding.ts'
import { optionsOf } from './lake.ts'

const freeBytes = { least: 2 ** 30, enough: 10 * 2 ** 30 }
// NFS, SMB, CIFS: their locks may not hold between machines.
const networkTypes = [0x6969, 0x517b, 0xfe534d42, 0xff534d42]

/** The folder of the tenants' lakes and files can be written, has room, and is read by its owner alone. */
export const folder: Check = {
  name: 'data folder',
  concerns: ({ dataDir }) => dataDir !== undefined,
  async look(house) {
    const { dataDir = '', part } = house
    const isThere = existsSync(dataDir)
    const place = isThere ? dataDir : nearest(dataDir)
    const probe = join(place, `.doctor-${randomUUID()}`)
    try {
      await access(place, constants.W_OK | constants.X_OK)
      if (isThere) await writeFile(probe, 'written and removed', { mode: 0o600, flush: true })
    } catch {
      return fail(
        `${place} cannot be written.`,
        'Make this user its owner, or set TRIBUTARY_DATA_DIR to a folder that it may write.',
      )
    } finally {
      await rm(probe, { force: true }).catch(() => undefined)
    }
    const findings: Finding[] = []
    const { bsize, bavail, type } = await statfs(place)
    const free = bsize * bavail
    const shown = `${(free / 2 ** 30).toFixed(1)} GB`
    if (free < freeBytes.least) findings.push(fail(`${shown} are free.`, 'Make room: steps fail with DISK_FULL.'))
    else if (free < freeBytes.enough) findings.push(warn(`${shown} are free.`, 'Make room before steps fail.'))
    if (networkTypes.includes(type))
      findings.push(warn('It is on a network file system.', 'Let workers of one machine alone use it.'))
    if (isThere && ((await stat(dataDir)).mode & 0o007) !== 0)
      findings.push(warn('Every user of this machine may look into it.', `Run: chmod 700 ${dataDir}`))
    if (!(await isEncrypted(place)))
      findings.push(
        warn(
          `${(await areFilesEncrypted(optionsOf(house) ?? {})) ? 'Files are not encrypted by the product, lakes are' : 'Lakes and files are not encrypted by the product'}, and no encryption of the volume is seen from here.`,
          'Put it on an encrypted volume: LUKS, or a disk that the provider encrypts.',
        ),
      )
    if (!findings.some(({ state }) => state === 'fail'))
      findings.unshift(
        ok(`${dataDir} ${isThere ? 'can be written' : `will be made by ${starter(part)}`}, ${shown} free.`),
      )
    return findings
  },
}

const starter = (part: string): string => (part === 'embedded' ? 'npm start' : 'the worker')

function nearest(path: string): string {
  return existsSync(path) || path === dirname(path) ? path : nearest(dirname(path))
}

// Linux names the encrypted devices of the kernel; what a provider does below them cannot be seen.
async function isEncrypted(path: string): Promise<boolean> {
  const { dev } = await stat(path, { bigint: true })
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn)
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn)
  const uuid = await readFile(`/sys/dev/block/${major}:${minor}/dm/uuid`, 'utf8').catch(() => '')
  return uuid.startsWith('CRYPT-')
}
