import { and, eq } from 'drizzle-orm'
import { pipeline, pipelineVersion } from '../../schema/tables/index.ts'
import type { Tx } from '../db/db.ts'
import { AppError } from '../errors.ts'
import { storeVersion } from './store-version.ts'
import { isSystemPath, templateOf } from './templates.ts'

/** A pipeline of a tenant with the text of its current version. */
export type CurrentPipeline = typeof pipeline.$inferSelect & { yaml: string; sha256: string }

/** The tenant's pipeline of this path, its own or a template that it has used; undefined when there is none. */
export async function findPipeline(tx: Tx, tenantId: string, path: string): Promise<CurrentPipeline | undefined> {
  const [row] = await tx
    .select({ pipeline, yaml: pipelineVersion.yaml, sha256: pipelineVersion.sha256 })
    .from(pipeline)
    .innerJoin(
      pipelineVersion,
      and(
        eq(pipelineVersion.tenantId, pipeline.tenantId),
        eq(pipelineVersion.pipelineId, pipeline.id),
        eq(pipelineVersion.version, pipeline.currentVersion),
      ),
    )
    .where(and(eq(pipeline.tenantId, tenantId), eq(pipeline.path, path)))
  return row && { ...row.pipeline, yaml: row.yaml, sha256: row.sha256 }
}

/** What a run of a path would run: its text, and `keep`, which makes it a version of the tenant unless it is one. */
export type Source = { yaml: string; keep(tx: Tx): Promise<{ id: string; version: number }> }

/**
 * The tenant's own pipeline of this path, else the template as it is today. A template is kept as a version of the tenant
 * when it runs, so that the run names what it ran. Throws NOT_FOUND.
 */
export async function sourceOf(
  tx: Tx,
  by: { tenantId: string; path: string; actor: string; requestId: string | null; isSystem?: boolean },
): Promise<Source> {
  const found = await findPipeline(tx, by.tenantId, by.path)
  const asItIs = (of: CurrentPipeline): Source => ({
    yaml: of.yaml,
    keep: async () => ({ id: of.id, version: of.currentVersion }),
  })
  if (found?.origin === 'tenant') return asItIs(found)
  const template = templateOf(by.path)
  if (!template || (isSystemPath(by.path) && !by.isSystem))
    throw new AppError('NOT_FOUND', 'There is neither a pipeline nor a template of this path.', {
      hint: 'See the queries pipelines and templates for what there is.',
      place: { path: 'pipeline' },
    })
  if (found?.sha256 === template.sha256) return asItIs(found)
  return {
    yaml: template.text,
    async keep(writer) {
      const { tenantId, path, actor, requestId } = by
      const { text: yaml, sha256 } = template
      const stored = await storeVersion(writer, { tenantId, path, actor, requestId, origin: 'template', yaml, sha256 })
      // Saved by the tenant since it was read: the run would name a text that it did not run.
      if (stored.origin !== 'template')
        throw new AppError('CONFLICT', 'This pipeline has just been saved: start again.')
      return { id: stored.pipelineId, version: stored.version }
    },
  }
}
