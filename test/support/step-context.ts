import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { z } from 'zod'
import type { Values } from '../../schema/config/variables.ts'
import { bindSql } from '../../shared/config/sql.ts'
import { AppError } from '../../shared/errors.ts'
import type { Processor, Progress, StepContext, StepResult } from '../../workers/define.ts'
import { tenantFiles } from '../../workers/files.ts'
import type { Store } from '../../workers/lake/attach.ts'
import type { Row } from '../../workers/lake/connection.ts'
import { type Lake, openLake } from '../../workers/lake/open.ts'
import { lakeStore } from './lake-store.ts'

/** What a step of a test is given; each part has a default. */
export type Given = {
  runId?: string
  stepKey?: string
  fence?: bigint
  cycle?: number
  /** Values of placeholders in SQL fields. */
  values?: Values
  secret?: unknown
  signal?: AbortSignal
}

/** One tenant with a real lake and a real folder. */
export type Tenant = AsyncDisposable & {
  lake: Lake
  root: string
  /** What steps reported and logged. */
  reports: Progress[]
  lines: string[]
  /** Runs a processor as a step; without `given` every call is a new run with a newer fence. */
  run<S extends z.ZodType>(processor: Processor<S>, settings: z.input<S>, given?: Given): Promise<StepResult['outputs']>
  context(given?: Given): Promise<StepContext>
  /** Writes a file into the tenant's folder. */
  write(path: string, content: string | Uint8Array): Promise<void>
  /** Rows of our own SQL, over `lake.raw` and `lake.main`. */
  rows(sql: string): Promise<Row[]>
  reopen(): Promise<void>
}

/** Opens a tenant over a fresh folder, which goes away with `await using`, or over one that stays. `store` is where its lake stands. */
export async function tenant(
  given: { id?: string; memoryBytes?: number; threads?: number; folder?: string; store?: Store } = {},
): Promise<Tenant> {
  const folder = given.folder ?? (await mkdtemp(join(tmpdir(), 'tenant-')))
  const limits = { memoryBytes: given.memoryBytes ?? 1 << 30, threads: given.threads ?? 2, diskBytes: 4 * 2 ** 30 }
  const files = tenantFiles(join(folder, 'files'))
  const place = { ...(given.store ?? lakeStore(folder)), filesRoot: files.root, workRoot: join(folder, 'work'), limits }
  let lake = await openLake(place)
  let steps = 0
  const reports: Progress[] = []
  const lines: string[] = []
  const id = given.id ?? 'guru_232342'

  const self: Tenant = {
    get lake() {
      return lake
    },
    root: files.root,
    reports,
    lines,
    async context(step = {}) {
      steps++
      const workDir = join(place.workRoot, `step-${steps}`)
      await mkdir(workDir, { recursive: true })
      const signal = step.signal ?? new AbortController().signal
      return {
        tenant: { id, companyName: 'Guru', adminEmail: 'admin@guru.example' },
        run: { id: step.runId ?? `run_${steps}`, pipelineId: 'demo/orders/daily', trigger: 'manual', actor: 'usr_1' },
        step: { key: step.stepKey ?? 'step', attempt: 1, cycle: step.cycle ?? 0, fence: step.fence ?? BigInt(steps) },
        lake,
        files,
        workDir,
        limits,
        allowPrivateNetwork: true,
        bindSql: (text, dialect) => bindSql(text, step.values ?? {}, dialect),
        secret: <S extends z.ZodType>(shape: S) => {
          const parsed = shape.safeParse(step.secret)
          if (parsed.success) return parsed.data
          throw new AppError('CREDENTIAL_INVALID', parsed.error.issues.map((issue) => issue.path.join('.')).join(', '))
        },
        progress: (progress) => void reports.push(progress),
        log: (level, message) => void lines.push(`${level}: ${message}`),
        signal,
      }
    },
    async run(processor, settings, step) {
      const ctx = await self.context(step)
      const result = await processor.run(ctx, processor.settings.parse(settings) as z.output<typeof processor.settings>)
      return result.outputs
    },
    async write(path, content) {
      const absolute = join(files.root, path)
      await mkdir(dirname(absolute), { recursive: true })
      await writeFile(absolute, content)
    },
    async rows(sql) {
      using connection = await lake.connect(new AbortController().signal)
      return await connection.rows(sql)
    },
    async reopen() {
      await lake.close()
      lake = await openLake(place)
    },
    async [Symbol.asyncDispose]() {
      await lake.close()
      if (given.folder === undefined) await rm(folder, { recursive: true, force: true })
    },
  }
  return self
}
