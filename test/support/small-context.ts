import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { z } from 'zod'
import { AppError } from '../../shared/errors.ts'
import type { Progress, StepContext } from '../../workers/define.ts'
import { tenantFiles } from '../../workers/files.ts'

/** A step's context without tables, and what the step did with it. */
export type SmallContext = StepContext & { reports: Progress[]; lines: string[] }

/**
 * A context for processors that never touch the lake, over a fresh folder that `await using` removes. `secret` is given
 * unparsed, as a tenant would have stored it.
 */
export async function smallContext(
  given: {
    fence?: bigint
    runId?: string
    stepKey?: string
    secret?: unknown
    signal?: AbortSignal
    allowPrivateNetwork?: boolean
  } = {},
): Promise<SmallContext & AsyncDisposable> {
  const folder = await mkdtemp(join(tmpdir(), 'small-context-'))
  const reports: Progress[] = []
  const lines: string[] = []
  const context: Omit<StepContext, 'lake'> = {
    tenant: { id: 'guru_232342', companyName: 'Guru', adminEmail: 'admin@guru.example' },
    run: { id: given.runId ?? 'run_1', pipelineId: 'demo/orders/daily', trigger: 'manual', actor: 'usr_1' },
    step: { key: given.stepKey ?? 'step', attempt: 1, cycle: 0, fence: given.fence ?? 7n },
    files: tenantFiles(join(folder, 'files')),
    workDir: join(folder, 'work'),
    limits: { memoryBytes: 512 << 20, threads: 1, diskBytes: 1 << 30 },
    allowPrivateNetwork: given.allowPrivateNetwork ?? true,
    bindSql: (text) => ({ text, values: [] }),
    secret: <S extends z.ZodType>(shape: S) => {
      const parsed = shape.safeParse(given.secret)
      if (parsed.success) return parsed.data
      const fields = parsed.error.issues.map((issue) => issue.path.join('.'))
      throw new AppError('CREDENTIAL_INVALID', `Not usable: ${fields.join(', ')}.`)
    },
    progress: (progress) => void reports.push(progress),
    log: (level, message) => void lines.push(`${level}: ${message}`),
    signal: given.signal ?? new AbortController().signal,
  }
  // The lake is left out on purpose: a processor that reaches for it fails its test at once.
  return {
    ...(context as StepContext),
    reports,
    lines,
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  }
}
