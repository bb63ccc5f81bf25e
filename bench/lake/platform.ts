import { execFile } from 'node:child_process'
import { copyFile, link, mkdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { z } from 'zod'
import type { OutputValue, ProcessLimits } from '../../workers/define.ts'
import { spawnTenantProcess } from '../../workers/process/spawn.ts'
import { orderColumns } from '../orders.ts'
import { type Counts, fileOf, type Snapshot } from './snapshots.ts'

/** A tenant with a fresh process of the product's own and a lake that outlives it. */
export type Platform = {
  /**
   * Loads one snapshot as the step `file.ingest` does, with `quality` in its destination where it is given. Seconds are
   * those that a parent waits for the step.
   */
  load(
    snapshot: Snapshot,
    quality?: Record<string, unknown>,
  ): Promise<{ seconds: number; counts: Counts; outputs: Record<string, OutputValue> }>
  /** Any other step, with its outputs. */
  run(
    psType: string,
    settings: Record<string, unknown>,
  ): Promise<{ seconds: number; outputs: Record<string, OutputValue> }>
  /** The most memory that the process has had resident so far, in bytes, as the kernel keeps it. */
  peakBytes(): Promise<number>
  close(): Promise<void>
}

const counts = z.object({ inserted: z.number(), updated: z.number(), deleted: z.number() })

/**
 * Starts the tenant's process over `work`, with the limits of a plan; `dataBytes` lowers the operating system's limit on
 * its data memory below what the plan gives. The files of `folder` stand in the tenant's.
 */
export async function startPlatform(
  folder: string,
  work: string,
  given: { limits: ProcessLimits; files: readonly Snapshot[]; dataBytes?: number },
): Promise<Platform> {
  const filesRoot = join(work, 'files')
  await mkdir(filesRoot, { recursive: true })
  for (const file of given.files)
    if (!(await stat(fileOf(filesRoot, file)).catch(() => undefined)))
      // The same file under another name where the disk can do that: a copy would warm one side's cache.
      await link(fileOf(folder, file), fileOf(filesRoot, file)).catch(() =>
        copyFile(fileOf(folder, file), fileOf(filesRoot, file)),
      )
  const tenant = spawnTenantProcess()
  await tenant.bind({
    tenant: { id: 'bench', companyName: 'Bench', adminEmail: 'bench@example.com' },
    store: { file: join(work, 'lake.duckdb') },
    filesRoot,
    workRoot: join(work, 'work'),
    limits: given.limits,
    allowPrivateNetwork: false,
  })
  if (given.dataBytes !== undefined)
    await promisify(execFile)('prlimit', ['--pid', String(tenant.pid), `--data=${given.dataBytes}`])
  const run: Platform['run'] = async (psType, settings) => {
    const fence = BigInt(Date.now())
    const startedAt = performance.now()
    const { outputs } = await tenant.run(
      {
        id: `job_${fence}`,
        psType,
        run: { id: `run_${fence}`, pipelineId: 'bench', trigger: 'manual', actor: 'usr_bench' },
        step: { key: 'step', attempt: 1, cycle: 0, fence },
        settings,
        values: {},
        secret: null,
      },
      { progress: () => undefined, log: () => undefined },
    )
    return { seconds: (performance.now() - startedAt) / 1000, outputs }
  }
  return {
    run,
    async load(snapshot, quality) {
      const { seconds, outputs } = await run('file.ingest', {
        source: { path: `${snapshot}.csv`, columns: orderColumns },
        destination: {
          table: 'orders',
          mode: 'versioned',
          business_key: ['order_id'],
          ...(quality ? { quality } : {}),
        },
      })
      return { seconds, counts: counts.parse(outputs), outputs }
    },
    async peakBytes() {
      const status = await readFile(`/proc/${tenant.pid}/status`, 'utf8')
      return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) * 1024
    },
    close: () => tenant.close(),
  }
}
