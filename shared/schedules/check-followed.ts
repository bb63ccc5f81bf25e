import { and, eq, sql } from 'drizzle-orm'
import type { Pipeline } from '../../schema/config/pipeline.ts'
import { pipeline as pipelines } from '../../schema/tables/index.ts'
import type { Problem } from '../config/problems.ts'
import type { Reporter } from '../config/read-yaml.ts'
import { rowsOf, type Tx } from '../db/db.ts'
import { isSystemPath, templateOf } from '../pipelines/templates.ts'

/**
 * What is wrong with the pipelines that a file follows: one that does not exist, and a circle. Holds other savers of the
 * tenant back until the transaction ends, so that two files cannot close a circle at once.
 */
export async function checkFollowed(
  tx: Tx,
  { tenantId, path }: { tenantId: string; path: string },
  pipeline: Pipeline,
  report: Reporter,
): Promise<Problem[]> {
  const followed = pipeline.triggers.flatMap((trigger, index) =>
    trigger.on === 'pipeline' ? [{ upstream: trigger.pipeline, at: ['triggers', index, 'pipeline'] }] : [],
  )
  if (followed.length === 0) return []
  await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended('follow ' || ${tenantId}, 0))`)
  const problems: Problem[] = []
  for (const { upstream, at } of followed) {
    if (upstream !== path && !(await exists(tx, tenantId, upstream)))
      problems.push(report.at(at, 'UNKNOWN_PIPELINE', `there is neither a pipeline nor a template "${upstream}"`))
    else if (await follows(tx, tenantId, upstream, path))
      problems.push(
        report.at(
          at,
          'PIPELINE_CYCLE',
          `"${upstream}" ${upstream === path ? 'is this pipeline itself' : 'follows this pipeline in turn'}`,
        ),
      )
  }
  return problems
}

async function exists(tx: Tx, tenantId: string, path: string): Promise<boolean> {
  if (!isSystemPath(path) && templateOf(path)) return true
  const [row] = await tx
    .select({ id: pipelines.id })
    .from(pipelines)
    .where(and(eq(pipelines.tenantId, tenantId), eq(pipelines.path, path)))
  return row !== undefined
}

async function follows(tx: Tx, tenantId: string, start: string, end: string): Promise<boolean> {
  const rows = await rowsOf<{ path: string }>(
    tx,
    sql`with recursive above(path) as (
          select ${start}::text
          union
          select t.target from app.pipeline_trigger t join above a on t.pipeline = a.path
          where t.tenant_id = ${tenantId} and t.kind = 'pipeline' and t.enabled)
        select path from above where path = ${end}`,
  )
  return rows.length > 0
}
