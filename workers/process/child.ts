import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { bindSql } from '../../shared/config/sql.ts'
import { AppError, type ErrorData, errorData } from '../../shared/errors.ts'
import type { DataRead } from '../../shared/datasets/reader.ts'
import { redactor } from '../../shared/redact.ts'
import type { StepContext, StepResult } from '../define.ts'
import { tenantFiles } from '../files.ts'
import { type Lake, type LakePlace, openLake } from '../lake/open.ts'
import { writeStepLog } from '../lake/step-log.ts'
import { processors } from '../processors/index.ts'
import { readLake } from '../reader/read-lake.ts'
import type { Binding, FromChild, Job, ToChild } from './messages.ts'
import { throttle } from './throttle.ts'

// One tenant's process. It starts empty, becomes one tenant's by the first message, and ends with that tenant's work or
// with its parent. It holds no database connection, no platform key and no environment.
const byType = new Map(processors.map((processor) => [processor.type, processor]))
const lakeWaitMs = 45_000
const logTimeoutMs = 5_000
const lookAgainMs = 250
const running = new Map<string, AbortController>()
const reading = new Map<string, AbortController>()
let bound: { binding: Binding; lake: Lake } | undefined

// Gone with its parent, at once: a regular exit would wait for what runs inside the engine and keep the lake locked.
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'))
process.on('error', () => process.kill(process.pid, 'SIGKILL'))
// Ctrl-C reaches the whole group of a terminal: it is the parent's to say when this process ends.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined)
process.on('message', (message: ToChild) => {
  if (message.kind === 'bind') void bind(message.binding)
  else if (message.kind === 'run') void run(message.job)
  else if (message.kind === 'abort')
    running.get(message.jobId)?.abort(new AppError('CANCELLED', 'The step was stopped.'))
  else if (message.kind === 'read') void answer(message.readId, message.read)
  else if (message.kind === 'stop_read')
    reading.get(message.readId)?.abort(new AppError('TIMED_OUT', 'The read took too long.'))
  else void close()
})
say({ kind: 'ready' })

function say(message: FromChild): void {
  if (process.connected) process.send?.(message)
}

async function bind(binding: Binding): Promise<void> {
  try {
    await mkdir(binding.workRoot, { recursive: true, mode: 0o700 })
    const lake = await openWhenFree({
      ...binding.store,
      filesRoot: binding.filesRoot,
      workRoot: binding.workRoot,
      limits: binding.limits,
    })
    bound = { binding, lake }
    say({ kind: 'bound' })
  } catch (error) {
    say({ kind: 'bind_failed', error: errorData(error) })
  }
}

// Its file has one writer. What another worker's process still has is free soon: that one is idle, or its worker is gone.
async function openWhenFree(place: LakePlace): Promise<Lake> {
  for (let waitedMs = 0; ; waitedMs += lookAgainMs) {
    try {
      return await openLake(place)
    } catch (error) {
      const isHeld = error instanceof AppError && error.code === 'CONFLICT' && error.retry !== 'never'
      if (!isHeld || waitedMs >= lakeWaitMs) throw error
      await sleep(lookAgainMs)
    }
  }
}

async function run(job: Job): Promise<void> {
  const abort = new AbortController()
  const startedAt = new Date().toISOString()
  running.set(job.id, abort)
  const progress = throttle(500, (value: Parameters<StepContext['progress']>[0]) =>
    say({ kind: 'progress', jobId: job.id, progress: value }),
  )
  try {
    if (!bound) throw new Error('a job came before its tenant')
    const processor = byType.get(job.psType)
    if (!processor) throw new AppError('CONFIG_INVALID', `This worker has no processor ${job.psType}.`)
    const settings = processor.settings.safeParse(job.settings)
    if (!settings.success) {
      const issue = settings.error.issues[0]
      throw new AppError(
        'CONFIG_INVALID',
        `${issue?.path.join('.') || job.step.key}: ${issue?.message ?? 'not usable'}.`,
      )
    }
    const workDir = join(bound.binding.workRoot, `${job.step.fence}`)
    await mkdir(workDir, { recursive: true, mode: 0o700 })
    let result: StepResult
    try {
      result = await processor.run(contextOf(job, bound, workDir, abort.signal, progress.push), settings.data)
      progress.flush()
      await keepLog(job, startedAt, { result })
    } finally {
      await rm(workDir, { recursive: true, force: true })
    }
    // Only now: who hears of it may end this process, or ask for the same again.
    say({ kind: 'done', jobId: job.id, result })
  } catch (error) {
    progress.flush()
    if (!(error instanceof AppError))
      say({ kind: 'log', jobId: job.id, level: 'error', message: 'The step ended with an unexpected error.' })
    // The full text goes to the operator's standard error, which no tenant reads.
    if (!(error instanceof AppError) || error.code === 'INTERNAL') console.error(error)
    const told = abort.signal.aborted ? new AppError('CANCELLED', 'The step was stopped.') : error
    await keepLog(job, startedAt, { error: errorData(told) })
    say({ kind: 'failed', jobId: job.id, error: errorData(told) })
  } finally {
    running.delete(job.id)
  }
}

async function answer(readId: string, read: DataRead): Promise<void> {
  const abort = new AbortController()
  reading.set(readId, abort)
  try {
    if (!bound) throw new Error('a read came before its tenant')
    using connection = await bound.lake.connect(abort.signal)
    say({ kind: 'rows', readId, rows: await readLake(connection, read) })
  } catch (error) {
    if (!(error instanceof AppError) || error.code === 'INTERNAL') console.error(error)
    say({ kind: 'unread', readId, error: errorData(error) })
  } finally {
    reading.delete(readId)
  }
}

// In the lake the tenant can join it with its rows. The ledger has it too: a lake that is gone or full costs no step its end.
async function keepLog(
  job: Job,
  startedAt: string,
  ended: { result: StepResult } | { error: ErrorData },
): Promise<void> {
  const secrets = redactor()
  if (job.secret !== null) secrets.remember(job.secret)
  try {
    using connection = await bound?.lake.connect(AbortSignal.timeout(logTimeoutMs))
    if (!connection) return
    const isDone = 'result' in ended
    await writeStepLog(connection, {
      runId: job.run.id,
      pipelineId: job.run.pipelineId,
      trigger: job.run.trigger,
      actor: job.run.actor,
      stepKey: job.step.key,
      psType: job.psType,
      cycle: job.step.cycle,
      attempt: job.step.attempt,
      fence: job.step.fence,
      status: isDone ? 'SUCCEEDED' : 'FAILED',
      errorCode: isDone ? null : ended.error.code,
      errorMessage: isDone ? null : secrets.text(ended.error.message),
      outputs: isDone ? secrets.data(ended.result.outputs) : null,
      startedAt,
      endedAt: new Date().toISOString(),
    })
  } catch (error) {
    // A step may be the one that removes the lake.
    if (error instanceof AppError && error.code === 'UNAVAILABLE') return
    say({ kind: 'log', jobId: job.id, level: 'warn', message: 'The end of this step was not written to the lake.' })
  }
}

function contextOf(
  job: Job,
  { binding, lake }: { binding: Binding; lake: Lake },
  workDir: string,
  signal: AbortSignal,
  progress: StepContext['progress'],
): StepContext {
  return {
    tenant: binding.tenant,
    run: job.run,
    step: job.step,
    lake,
    files: tenantFiles(binding.filesRoot),
    workDir,
    limits: binding.limits,
    allowPrivateNetwork: binding.allowPrivateNetwork,
    bindSql: (text, dialect) => bindSql(text, job.values, dialect),
    secret: (shape) => {
      if (job.secret === null)
        throw new AppError(
          'CREDENTIAL_MISSING',
          'This step needs a credential, and the tenant has none of its provider.',
        )
      const parsed = shape.safeParse(job.secret)
      if (parsed.success) return parsed.data
      // Names of fields only: a message could repeat the value.
      const fields = [...new Set(parsed.error.issues.map((issue) => issue.path.join('.') || issue.code))]
      throw new AppError('CREDENTIAL_INVALID', `The credential does not fit its provider: ${fields.join(', ')}.`)
    },
    progress,
    log: (level, message) => say({ kind: 'log', jobId: job.id, level, message }),
    signal,
  }
}

async function close(): Promise<void> {
  for (const abort of [...running.values(), ...reading.values()]) abort.abort()
  await bound?.lake.close()
  process.exit(0)
}
