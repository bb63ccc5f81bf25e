import type { DataRead, DataRow } from '../../shared/datasets/reader.ts'
import { AppError } from '../../shared/errors.ts'
import type { StepResult } from '../define.ts'
import type { Binding, Job } from './messages.ts'
import { spawnTenantProcess, type TenantProcess } from './spawn.ts'

/** Hears of a job while it runs. */
export type JobEvents = {
  progress(progress: { done: number; total: number | null; unit: string; note?: string }): void
  log(level: 'info' | 'warn' | 'error', message: string): void
}

/** Runs jobs, each in its own tenant's process. */
export type ProcessPool = {
  /**
   * Runs a job in the tenant's process, which is taken from the warm spare or started. When `signal` aborts the job is
   * asked to stop and, `killAfterMs` later, its process is killed. Rejects with the step's AppError; with PROCESS_DIED
   * when the process ended under it (`context.collateral` when another job's kill took it along).
   */
  run(binding: Binding, job: Job, events: JobEvents, signal: AbortSignal): Promise<StepResult>
  /**
   * Reads the tenant's lake in that same process, beside whatever runs there: the lake has one writer, and a transaction
   * of a load does not hold up those that read. Rejects when `signal` aborts, and with the read's AppError.
   */
  read(binding: Binding, read: DataRead, signal: AbortSignal): Promise<DataRow[]>
  /** Process ids of the tenants that have one. */
  pids(): Map<string, number>
  /**
   * Whether a tenant that has no process could get one now: a spare is there, or was lately and the next is loading. One
   * that died is replaced, so ask again.
   */
  canSpawn(): boolean
  /** From here on a tenant's process ends as soon as it has no job. */
  keepNoneWarm(): void
  /** Ends every process; jobs that still run reject. */
  close(): Promise<void>
}

/** `idleMs`: how long a tenant's process is kept without work. `killAfterMs`: what a job gets to obey an abort. */
export type PoolOptions = { idleMs: number; killAfterMs: number }

// A spare loads in a second, on a machine that is busy in several.
const spareLoadMs = 15_000

/** A pool with one spare process, so that a tenant's first step does not wait for DuckDB to load. */
export function processPool(options: PoolOptions = { idleMs: 30_000, killAfterMs: 500 }): ProcessPool {
  const tenants = new Map<string, Promise<TenantProcess>>()
  const started = new Map<string, TenantProcess>()
  let spare = spawnTenantProcess()
  let closed = false
  let { idleMs } = options
  let readyAt = Number.NEGATIVE_INFINITY

  // The lake's file has one writer: a successor starts only when the old process is gone.
  function processOf(binding: Binding): Promise<TenantProcess> {
    const { id } = binding.tenant
    const known = tenants.get(id)
    if (known) return known
    const child = spare.closing ? spawnTenantProcess() : spare
    spare = spawnTenantProcess()
    const ready = child.bind(binding).then(() => {
      readyAt = performance.now()
      child.whenIdle(idleMs, () => {
        // From here on a new step gets a new process; it waits below until this one has let go of the lake.
        void child.close()
      })
      return child
    })
    tenants.set(id, ready)
    started.set(id, child)
    const forget = (): void => {
      if (tenants.get(id) !== ready) return
      tenants.delete(id)
      started.delete(id)
    }
    void child.ended.then(forget)
    ready.catch(() => child.kill())
    return ready
  }

  async function take(binding: Binding): Promise<TenantProcess> {
    for (;;) {
      if (closed) throw new AppError('UNAVAILABLE', 'The worker is stopping.')
      const child = await processOf(binding)
      if (!child.closing) return child
      await child.ended
    }
  }

  return {
    async run(binding, job, events, signal) {
      const child = await unlessAborted(take(binding), signal)
      const work = child.run(job, events)
      let timer: NodeJS.Timeout | undefined
      const stop = (): void => {
        child.abort(job.id)
        timer = setTimeout(() => child.kill(job.id), options.killAfterMs)
      }
      if (signal.aborted) stop()
      else signal.addEventListener('abort', stop, { once: true })
      try {
        return await work
      } finally {
        clearTimeout(timer)
        signal.removeEventListener('abort', stop)
      }
    },
    async read(binding, read, signal) {
      const child = await unlessAborted(take(binding), signal)
      return child.read(read, signal)
    },
    pids: () => new Map([...started].map(([id, child]) => [id, child.pid])),
    canSpawn() {
      if (closed) return false
      if (spare.closing) spare = spawnTenantProcess()
      const now = performance.now()
      if (spare.isReady) readyAt = now
      return now - readyAt < spareLoadMs
    },
    keepNoneWarm() {
      idleMs = 0
      for (const child of started.values()) child.whenIdle(0, () => void child.close())
    },
    async close() {
      closed = true
      spare.kill()
      await Promise.all([...started.values()].map((child) => child.close()))
    },
  }
}

// A process waits for its lake while another worker's still has it: who gives the step up waits no longer.
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = (): void => reject(new AppError('CANCELLED', 'The step was stopped.'))
    if (signal.aborted) leave()
    signal.addEventListener('abort', leave, { once: true })
    void work.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave))
  })
}
