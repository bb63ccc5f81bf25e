import { and, asc, desc, eq, getTableColumns, gte, inArray, lt, sql } from 'drizzle-orm'
import type { RunState } from '../../schema/states.ts'
import { pipeline, pipelineRun, runStep } from '../../schema/tables/index.ts'
import type { Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { authOf, type Context, readInTenant } from '../context.ts'
import { loaderOf } from '../graphql/batch.ts'
import { type Page, type PageArgs, readPage } from '../graphql/page.ts'

/** A run with the path of its pipeline. */
export type RunRow = typeof pipelineRun.$inferSelect & { pipelinePath: string }
/** A step of a run. */
export type StepRow = typeof runStep.$inferSelect

/** Which runs to list; what is absent does not filter. */
export type RunFilter = {
  states?: readonly RunState[] | null | undefined
  pipeline?: string | null | undefined
  createdFrom?: Date | null | undefined
  createdBefore?: Date | null | undefined
}

/** The run of this id. Throws NOT_FOUND when there is none, and alike when it is another tenant's. */
export async function readRun(context: Context, runId: string): Promise<RunRow> {
  const { tenantId } = authOf(context)
  const [row] = await readInTenant(context, (db) =>
    runsOf(db).where(and(eq(pipelineRun.tenantId, tenantId), eq(pipelineRun.runId, runId))),
  )
  if (!row) throw new AppError('NOT_FOUND', 'There is no such run.')
  return row
}

/** The run of this id, if there is one; those of one answer are read together. */
export function findRun(context: Context, runId: string): Promise<RunRow | undefined> {
  const { tenantId } = authOf(context)
  const read = async (ids: string[]): Promise<Map<string, RunRow>> => {
    const rows = await readInTenant(context, (db) =>
      runsOf(db).where(and(eq(pipelineRun.tenantId, tenantId), inArray(pipelineRun.runId, ids))),
    )
    return new Map(rows.map((row) => [row.runId, row]))
  }
  return loaderOf<RunRow | undefined>(context, 'runs by id', read, () => undefined)(runId)
}

/** Runs of the tenant, newest first. */
export function listRuns(context: Context, args: PageArgs, filter: RunFilter): Promise<Page<RunRow>> {
  const { tenantId } = authOf(context)
  const { states, createdFrom, createdBefore } = filter
  return readPage(context, args, {
    list: ['runs', tenantId, states ?? null, filter.pipeline ?? null, createdFrom ?? null, createdBefore ?? null],
    position: (row) => [row.runId, row.runId],
    read: (limit, after) =>
      readInTenant(context, (db) =>
        runsOf(db)
          .where(
            and(
              eq(pipelineRun.tenantId, tenantId),
              states ? inArray(pipelineRun.state, [...states]) : undefined,
              filter.pipeline ? eq(pipeline.path, filter.pipeline) : undefined,
              createdFrom ? gte(pipelineRun.createdAt, createdFrom) : undefined,
              createdBefore ? lt(pipelineRun.createdAt, createdBefore) : undefined,
              after ? lt(pipelineRun.runId, after[1]) : undefined,
            ),
          )
          .orderBy(desc(pipelineRun.runId))
          .limit(limit),
      ),
  })
}

/** Steps of a run in the order of the pipeline; those of all runs of an answer are read together. */
export function stepsOf(context: Context, runId: string): Promise<StepRow[]> {
  const { tenantId } = authOf(context)
  const read = async (runIds: string[]): Promise<Map<string, StepRow[]>> => {
    const rows = await readInTenant(context, (db) =>
      db
        .select()
        .from(runStep)
        .where(and(eq(runStep.tenantId, tenantId), inArray(runStep.runId, runIds)))
        .orderBy(asc(runStep.position), sql`length(${runStep.stepKey})`, asc(runStep.stepKey)),
    )
    return Map.groupBy(rows, (row) => row.runId)
  }
  return loaderOf(context, 'steps of runs', read, () => [])(runId)
}

/** The pipeline of a run; those of all runs of an answer are read together. */
export async function pipelineOf(context: Context, row: RunRow): Promise<typeof pipeline.$inferSelect> {
  const { tenantId } = authOf(context)
  const read = async (ids: string[]) => {
    const rows = await readInTenant(context, (db) =>
      db
        .select()
        .from(pipeline)
        .where(and(eq(pipeline.tenantId, tenantId), inArray(pipeline.id, ids))),
    )
    return new Map(rows.map((found) => [found.id, found]))
  }
  const found = await loaderOf<typeof pipeline.$inferSelect | undefined>(
    context,
    'pipelines of runs',
    read,
    () => undefined,
  )(row.pipelineId)
  if (!found) throw new Error('a run names a pipeline that is not there')
  return found
}

const runsOf = (tx: Tx) =>
  tx
    .select({ ...getTableColumns(pipelineRun), pipelinePath: pipeline.path })
    .from(pipelineRun)
    .innerJoin(pipeline, and(eq(pipeline.tenantId, pipelineRun.tenantId), eq(pipeline.id, pipelineRun.pipelineId)))
