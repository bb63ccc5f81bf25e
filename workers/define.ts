import type { z } from 'zod'
import type { QueueType } from '../schema/states.ts'
import type { BoundSql } from '../shared/config/sql.ts'
import type { SqlDialect } from '../shared/config/sql-dialects.ts'
import type { Lake } from './lake/open.ts'
import type { TenantFiles } from './files.ts'

/** What `ctx.bindSql` gives; sources and processors take it from here. */
export type { BoundSql }

/** A value that may stand in a step's outputs: what `{steps.<step_id>.<name>}` gives to later steps. */
export type OutputValue = string | number | boolean | null | OutputValue[] | { [key: string]: OutputValue }

/** An e-mail that a step wants sent. It becomes an outbox row in the transaction that completes the step. */
export type Mail = { to: string[]; subject: string; text: string }

/** How far a step is. `total` is null when it cannot be known: nobody invents a percentage. */
export type Progress = { done: number; total: number | null; unit: 'rows' | 'bytes' | 'files'; note?: string }

/** Sizes that the tenant's plan gives to its process. */
export type ProcessLimits = {
  memoryBytes: number
  threads: number
  diskBytes: number
  /** The most rows that one query may put into a table. Default: no limit. */
  rowsMax?: number
}

/** Everything a processor may touch. It lives in the tenant's own process and knows no other tenant and no database of ours. */
export type StepContext = {
  tenant: { id: string; companyName: string; adminEmail: string }
  run: { id: string; pipelineId: string; trigger: string; actor: string }
  /**
   * `fence` grows with every claim of any step: the newer attempt has the greater one. `cycle` counts how often the step
   * was run again after it had succeeded: a repeat of one cycle ends in the same rows, a new cycle does the work anew.
   */
  step: { key: string; attempt: number; cycle: number; fence: bigint }
  /** The tenant's tables. */
  lake: Lake
  /** The tenant's folder; every path of a pipeline is relative to it. */
  files: TenantFiles
  /** An empty private folder of this attempt, removed when it ends. */
  workDir: string
  limits: ProcessLimits
  /** True when the deployment allows connections to private and loopback addresses. */
  allowPrivateNetwork: boolean
  /**
   * Placeholders of a SQL text, by place: a quoted `'{date}'` becomes a bound value, an identifier place a checked and
   * quoted identifier, as `dialect` (`standard`) writes both. Throws SQL_INTERPOLATION for any other place, VARIABLE_UNKNOWN for an unknown name.
   */
  bindSql(text: string, dialect?: SqlDialect): BoundSql
  /** The opened credential that the step names, parsed. Throws CREDENTIAL_MISSING or CREDENTIAL_INVALID (field names only). */
  secret<S extends z.ZodType>(shape: S): z.output<S>
  /** Cheap: call it as often as you like, it reports at most twice a second. */
  progress(progress: Progress): void
  /** A line in the step's log, shown to the tenant. Never a secret, never an absolute path. */
  log(level: 'info' | 'warn' | 'error', message: string): void
  /** Aborts on cancel, timeout, lost lease or stop. Every outside call takes it. */
  signal: AbortSignal
}

/** A run that a step starts and waits for. */
export type WantedRun = { pipeline: string; parameters: Record<string, OutputValue>; environment: string | null }

/**
 * What a step leaves behind: values for later steps and for the run's summary, and mail to send. With `run` the step is
 * not done yet: it ends as that run ends.
 */
export type StepResult = { outputs: Record<string, OutputValue>; mail?: Mail[]; run?: WantedRun }

/**
 * A processor: one kind of step. `type` is `<family>.<name>` and equals its path under `processors/`.
 * `settings` holds the fields of its own (common ones such as `retry` are the pipeline's); SQL fields are marked with
 * `.meta({ 'x-sql': true })`, or `'x-sql': 'bigquery'` for that dialect, and reach `run` with their placeholders, for
 * `ctx.bindSql`; all others arrive resolved.
 * `run` may be repeated after a crash at any point and must then end in the same rows and the same files.
 */
export type Processor<S extends z.ZodType = z.ZodType> = {
  type: string
  title: string
  description: string
  queue: QueueType
  settings: S
  /** Providers whose credentials it takes (`postgres`, `sftp` …); empty when it needs none. */
  credentialProviders: readonly string[]
  /** False for what adds nothing to lake and files: it runs even when the tenant's storage is used up. Default: true. */
  writes?: boolean
  run(ctx: StepContext, settings: z.output<S>): Promise<StepResult>
}

/** Types a processor's `run` from its settings; the returned object is frozen. */
export function defineProcessor<S extends z.ZodType>(processor: Processor<S>): Processor<S> {
  return Object.freeze(processor)
}

/** A column of a dataset; `type` is a DuckDB type name. */
export type Column = { name: string; type: string }

/**
 * What a source hands over: CSV files as DuckDB and PostgreSQL write them (NULL is nothing, the empty text is `""`, no
 * header), one after another as they become ready. The reader deletes a file when it has loaded it.
 */
export type Extract = {
  columns: Column[]
  files: AsyncIterable<{ path: string; bytes: number }>
  rowsTotal: number | null
}

/**
 * A source: one kind of system that `db.ingest` reads. `secret` is the form of its credential.
 * `check` opens a connection and closes it again, and throws what a user can act on.
 */
export type Source<S extends z.ZodType = z.ZodType> = {
  provider: string
  title: string
  /** Whose SQL its queries are written in. */
  dialect: SqlDialect
  secret: S
  check(ctx: Pick<StepContext, 'signal' | 'allowPrivateNetwork'>, secret: z.output<S>): Promise<void>
  read(
    ctx: Pick<StepContext, 'signal' | 'allowPrivateNetwork' | 'workDir' | 'log' | 'progress'>,
    secret: z.output<S>,
    query: BoundSql,
  ): Promise<Extract>
}

/** Types a source's `read` and `check` from its secret; the returned object is frozen. */
export function defineSource<S extends z.ZodType>(source: Source<S>): Source<S> {
  return Object.freeze(source)
}
