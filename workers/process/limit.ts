import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import type { ProcessLimits } from '../define.ts'

const run = promisify(execFile)

// What Node and DuckDB need beside DuckDB's own memory_limit: 1.44 GB resident were measured at a limit of 1 GB, and
// with 1.2 GB on top a string bomb ends as a plain out-of-memory error while the process lives on.
const overheadBytes = 1_200_000_000
const cpuSecondsMax = 6 * 3600
const watchEveryMs = 1_000

/**
 * Puts the operating system's limits on a process: data memory, CPU seconds, the size of each file (`fileBytes`), open
 * files, no core dumps.
 * Where `prlimit` is missing, resident memory is watched instead and `overrun` is called when it passes the limit.
 * Answers how to stop watching.
 */
export async function limitProcess(
  pid: number,
  limits: ProcessLimits,
  fileBytes: number,
  overrun: () => void,
): Promise<() => void> {
  const bytes = limits.memoryBytes + overheadBytes
  try {
    const args = [`--data=${bytes}`, `--cpu=${cpuSecondsMax}`, `--fsize=${fileBytes}`, '--nofile=1024', '--core=0']
    await run('prlimit', ['--pid', String(pid), ...args], { timeout: 5_000 })
    return () => undefined
  } catch {
    const timer = setInterval(() => {
      void residentBytes(pid).then((resident) => {
        if (resident > bytes) overrun()
      })
    }, watchEveryMs)
    timer.unref()
    return () => clearInterval(timer)
  }
}

/** Resident memory of a process in bytes; 0 when it is gone or cannot be asked. */
export async function residentBytes(pid: number): Promise<number> {
  const pages = await readFile(`/proc/${pid}/statm`, 'utf8').catch(() => undefined)
  if (pages !== undefined) return Number(pages.split(' ')[1] ?? 0) * 4096
  const { stdout } = await run('ps', ['-o', 'rss=', '-p', String(pid)], { timeout: 5_000 }).catch(() => ({
    stdout: '0',
  }))
  return Number(stdout.trim()) * 1024
}
