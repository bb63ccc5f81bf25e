import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { AppError } from '../shared/errors.ts'

const holder = z.object({ pid: z.int(), boot: z.string(), startedAt: z.string() })

/**
 * Makes `folder` and takes it for this process: embedded PostgreSQL opens the same files twice without a word, and then
 * each sees other data. Throws CONFLICT, naming the holder, while another living process has it; what a dead one left
 * is taken over. Disposing gives it back.
 */
export async function lockFolder(folder: string): Promise<Disposable> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const file = join(folder, 'lock.json')
  const mine = JSON.stringify({ pid: process.pid, boot: bootId(), startedAt: new Date().toISOString() })
  for (let tries = 0; tries < 3; tries++) {
    try {
      writeFileSync(file, mine, { flag: 'wx', mode: 0o600 })
      return { [Symbol.dispose]: () => rmSync(file, { force: true }) }
    } catch (error) {
      if (!isCode(error, 'EEXIST')) throw error
      const other = readHolder(file)
      if (other && isAlive(other)) {
        throw new AppError(
          'CONFLICT',
          `The folder ${folder} is in use by process ${other.pid}, started ${other.startedAt}.`,
          {
            hint: 'Stop that process first, or choose another folder with TRIBUTARY_DATA_DIR.',
          },
        )
      }
      rmSync(file, { force: true })
    }
  }
  throw new AppError('CONFLICT', `The folder ${folder} is being taken by another process.`)
}

function readHolder(file: string): z.output<typeof holder> | undefined {
  try {
    return holder.parse(JSON.parse(readFileSync(file, 'utf8')))
  } catch {
    return undefined
  }
}

// A pid of another boot may belong to anybody by now.
function isAlive(other: { pid: number; boot: string }): boolean {
  if (other.boot !== bootId() || other.pid === process.pid) return false
  try {
    process.kill(other.pid, 0)
    return true
  } catch (error) {
    return isCode(error, 'EPERM')
  }
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return 'unknown'
  }
}

const isCode = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code
