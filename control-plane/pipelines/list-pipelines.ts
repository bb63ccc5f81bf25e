import { and, asc, eq, gt, inArray } from 'drizzle-orm'
import { pipeline, pipelineVersion } from '../../schema/tables/index.ts'
import { type CurrentPipeline } from '../../shared/pipelines/find-pipeline.ts'
import { authOf, type Context, readInTenant } from '../context.ts'
import { loaderOf } from '../graphql/batch.ts'
import { type Page, type PageArgs, readPage } from '../graphql/page.ts'

/** A pipeline without its text, which is read only when asked for. */
export type PipelineRow = typeof pipeline.$inferSelect

/** The tenant's pipelines by path: its own and the templates that it has used. */
export function listPipelines(context: Context, args: PageArgs): Promise<Page<PipelineRow>> {
  const { tenantId } = authOf(context)
  return readPage(context, args, {
    list: ['pipelines', tenantId],
    position: (row) => [row.path, row.id],
    read: (limit, after) =>
      readInTenant(context, (db) =>
        db
          .select()
          .from(pipeline)
          .where(and(eq(pipeline.tenantId, tenantId), after ? gt(pipeline.path, after[0]) : undefined))
          .orderBy(asc(pipeline.path))
          .limit(limit),
      ),
  })
}

/** Current texts; those of one page are read together. */
export function currentText(context: Context, row: PipelineRow): Promise<Pick<CurrentPipeline, 'yaml' | 'sha256'>> {
  const { tenantId } = authOf(context)
  const read = async (ids: string[]) => {
    const rows = await readInTenant(context, (db) =>
      db
        .select({ id: pipeline.id, yaml: pipelineVersion.yaml, sha256: pipelineVersion.sha256 })
        .from(pipeline)
        .innerJoin(
          pipelineVersion,
          and(
            eq(pipelineVersion.tenantId, pipeline.tenantId),
            eq(pipelineVersion.pipelineId, pipeline.id),
            eq(pipelineVersion.version, pipeline.currentVersion),
          ),
        )
        .where(and(eq(pipeline.tenantId, tenantId), inArray(pipeline.id, ids))),
    )
    return new Map(rows.map(({ id, ...text }) => [id, text]))
  }
  return loaderOf(context, 'text of pipelines', read, () => ({ yaml: '', sha256: '' }))(row.id)
}
