import type { Connection } from './connection.ts'

/** One attempt of a step, as it ended. `endedAt` minus `startedAt` is its time in the tenant's process; both ISO 8601. */
export type StepLog = {
  runId: string
  pipelineId: string
  trigger: string
  actor: string
  stepKey: string
  psType: string
  cycle: number
  attempt: number
  fence: bigint
  status: 'SUCCEEDED' | 'FAILED'
  errorCode: string | null
  errorMessage: string | null
  outputs: object | null
  startedAt: string
  endedAt: string
}

/** Writes how an attempt ended into `x_meta_step_logs`; said twice it stands there once. */
export async function writeStepLog(connection: Connection, log: StepLog): Promise<void> {
  await connection.run(
    `INSERT OR IGNORE INTO lake.raw.x_meta_step_logs
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::UBIGINT, $10, $11, $12, $13, $14::TIMESTAMPTZ, $15::TIMESTAMPTZ)`,
    [
      log.runId,
      log.stepKey,
      log.pipelineId,
      log.trigger,
      log.actor,
      log.psType,
      log.cycle,
      log.attempt,
      String(log.fence),
      log.status,
      log.errorCode,
      log.errorMessage,
      log.outputs === null ? null : JSON.stringify(log.outputs),
      log.startedAt,
      log.endedAt,
    ],
  )
}
