import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { DataRead, DataRow } from '../../shared/datasets/reader.ts'
import { AppError, type ErrorData, errorFromData } from '../../shared/errors.ts'
import { redactor } from '../../shared/redact.ts'
import type { StepResult } from '../define.ts'
import { abortedError } from '../aborted.ts'
import { passLines } from './lines.ts'
import { limitProcess } from './limit.ts'
import type { Binding, FromChild, Job, ToChild } from './messages.ts'
import type { JobEvents } from './pool.ts'
import { allowedBytes, watchDisk } from './watch-disk.ts'

/** A child process that is, or will become, one tenant's. */
export type TenantProcess = {
  pid: number
  /** True once it has loaded what it needs and waits for its tenant. */
  isReady: boolean
  /** True once it takes no more work. */
  closing: boolean
  /** Resolves when the process is gone. */
  ended: Promise<void>
  /** Makes it the tenant's: limits by the operating system first, then the lake. */
  bind(binding: Binding): Promise<void>
  run(job: Job, events: JobEvents): Promise<StepResult>
  abort(jobId: string): void
  /** Rows of the tenant's lake. One that is aborted is asked to stop and rejects at once; the process lives on. */
  read(read: DataRead, signal: AbortSignal): Promise<DataRow[]>
  /** Kills the process at once. `jobId` names the job that is meant; the others learn that they were not. */
  kill(jobId?: string): void
  /** Lets it end by itself, and kills it after 5 s. Resolves when it is gone. */
  close(): Promise<void>
  /** Calls back once, after `idleMs` without a job. */
  whenIdle(idleMs: number, callback: () => void): void
}

// A process that ran into its limit has little left below it: the tenant's next step gets a fresh one.
const spent: ReadonlySet<string> = new Set(['MEMORY_EXCEEDED', 'DISK_FULL'])

// The engine's allocator gives memory back that it no longer uses, rather than keep it for later under a limit of the
// operating system that counts it: 160 to 340 MB less at a limit of 1 GB for the engine, for no time that could be measured.
const allocator = 'retain:false,narenas:2,dirty_decay_ms:250,muzzy_decay_ms:0'

const tenantChild = fileURLToPath(new URL('./child.ts', import.meta.url))

type Running = {
  resolve(result: StepResult): void
  reject(error: unknown): void
  events: JobEvents
  held: Disposable
}

/**
 * Starts a process that loads DuckDB and waits for its tenant. Whatever it says leaves through here, without the secrets
 * that it was given: messages, results, errors, and its standard error, even when it dies of itself.
 */
export function spawnTenantProcess(entry: string = tenantChild): TenantProcess {
  const child = fork(entry, {
    serialization: 'advanced',
    env: { PATH: process.env['PATH'] ?? '', TZ: 'UTC', DUCKDB_JE_MALLOC_CONF: allocator },
    execArgv: [],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  // Guarded while the step runs and remembered after it: an error that comes late still holds what the step was given.
  const secrets = redactor()
  if (child.stderr) passLines(child.stderr, (line) => process.stderr.write(secrets.text(line)))
  const jobs = new Map<string, Running>()
  const reads = new Map<string, PromiseWithResolvers<DataRow[]>>()
  let readsAsked = 0
  const bound = Promise.withResolvers<void>()
  const ready = Promise.withResolvers<void>()
  const ended = Promise.withResolvers<void>()
  // Both are awaited only by some paths; a process that dies in between must not raise an unhandled rejection.
  bound.promise.catch(() => undefined)
  ready.promise.catch(() => undefined)
  let meant: string | undefined
  let unlimit: (() => void) | undefined
  let unwatch: (() => void) | undefined
  let idle: { ms: number; callback: () => void; timer?: NodeJS.Timeout } | undefined

  const cleanError = (error: ErrorData): ErrorData => ({
    ...secrets.data(error),
    message: secrets.text(error.message),
    hint: secrets.text(error.hint),
  })
  const send = (message: ToChild): void => {
    if (child.connected) child.send(message)
  }
  const finish = (
    jobId: string,
    settle: (job: { resolve(result: StepResult): void; reject(error: unknown): void }) => void,
  ): void => {
    const job = jobs.get(jobId)
    if (!job) return
    jobs.delete(jobId)
    job.held[Symbol.dispose]()
    settle(job)
    waitIdle()
  }
  // Its jobs end at once; the process itself takes back what they wrote and ends, and is killed when it does not.
  const refuseDisk = (): void => {
    const full = new AppError('DISK_FULL', "The step wrote more than the disk space of the tenant's plan.")
    for (const jobId of jobs.keys()) finish(jobId, (job) => job.reject(full))
    void self.close()
  }
  const waitIdle = (): void => {
    const isIdle = jobs.size === 0 && reads.size === 0
    if (self.closing && isIdle) void self.close()
    if (!idle) return
    clearTimeout(idle.timer)
    if (!isIdle) return
    const { callback } = idle
    idle.timer = setTimeout(callback, idle.ms)
    idle.timer.unref()
  }

  child.on('message', (message: FromChild) => {
    if (message.kind === 'ready') {
      self.isReady = true
      ready.resolve()
    } else if (message.kind === 'bound') bound.resolve()
    else if (message.kind === 'bind_failed') bound.reject(errorFromData(cleanError(message.error)))
    else if (message.kind === 'progress') jobs.get(message.jobId)?.events.progress(secrets.data(message.progress))
    else if (message.kind === 'log') jobs.get(message.jobId)?.events.log(message.level, secrets.text(message.message))
    else if (message.kind === 'done') finish(message.jobId, (job) => job.resolve(secrets.data(message.result)))
    else if (message.kind === 'rows') reads.get(message.readId)?.resolve(message.rows)
    else if (message.kind === 'unread') reads.get(message.readId)?.reject(errorFromData(cleanError(message.error)))
    else {
      if (spent.has(message.error.code)) self.closing = true
      finish(message.jobId, (job) => job.reject(errorFromData(cleanError(message.error))))
    }
  })
  child.on('error', () => child.kill('SIGKILL'))
  child.on('exit', (code, signal) => {
    self.closing = true
    self.isReady = false
    clearTimeout(idle?.timer)
    unlimit?.()
    unwatch?.()
    const why = signal ? `by ${signal}` : `with code ${code ?? 'unknown'}`
    const died = (jobId: string): AppError =>
      new AppError('PROCESS_DIED', `The tenant's process ended ${why} while the step ran.`, {
        context: { collateral: meant !== undefined && meant !== jobId },
      })
    for (const [jobId, job] of jobs) job.reject(died(jobId))
    jobs.clear()
    for (const read of reads.values()) read.reject(new AppError('UNAVAILABLE', "The tenant's process has ended."))
    ready.reject(died(''))
    bound.reject(died(''))
    ended.resolve()
  })

  const self: TenantProcess = {
    pid: child.pid ?? 0,
    isReady: false,
    closing: false,
    ended: ended.promise,
    async bind(binding) {
      await ready.promise
      const { key, ducklake } = binding.store
      const password = ducklake && new URL(ducklake.catalog).password
      secrets.guard([key, password, ducklake?.s3?.secret])
      const fileBytes = await allowedBytes(binding.store, binding.limits)
      unlimit = await limitProcess(self.pid, binding.limits, fileBytes, () => self.kill())
      unwatch = await watchDisk(binding, refuseDisk)
      send({ kind: 'bind', binding })
      await bound.promise
    },
    run(job, events) {
      clearTimeout(idle?.timer)
      const { promise, resolve, reject } = Promise.withResolvers<StepResult>()
      if (job.secret !== null) secrets.remember(job.secret)
      jobs.set(job.id, { resolve, reject, events, held: secrets.guard(job.secret) })
      if (self.closing || !child.connected)
        finish(job.id, (waiting) =>
          waiting.reject(
            new AppError('PROCESS_DIED', "The tenant's process has ended.", { context: { collateral: true } }),
          ),
        )
      else send({ kind: 'run', job })
      return promise
    },
    abort: (jobId) => send({ kind: 'abort', jobId }),
    async read(read, signal) {
      const readId = String(++readsAsked)
      clearTimeout(idle?.timer)
      const asked = Promise.withResolvers<DataRow[]>()
      reads.set(readId, asked)
      const stop = (): void => {
        send({ kind: 'stop_read', readId })
        asked.reject(abortedError(signal))
      }
      signal.addEventListener('abort', stop, { once: true })
      try {
        if (signal.aborted) stop()
        else if (self.closing || !child.connected)
          asked.reject(new AppError('UNAVAILABLE', "The tenant's process has ended."))
        else send({ kind: 'read', readId, read })
        return await asked.promise
      } finally {
        signal.removeEventListener('abort', stop)
        reads.delete(readId)
        waitIdle()
      }
    },
    kill(jobId) {
      meant = jobId
      self.closing = true
      child.kill('SIGKILL')
    },
    async close() {
      self.closing = true
      send({ kind: 'close' })
      const timer = setTimeout(() => child.kill('SIGKILL'), 5_000)
      await ended.promise
      clearTimeout(timer)
    },
    whenIdle(ms, callback) {
      idle = { ms, callback }
      waitIdle()
    },
  }
  return self
}
