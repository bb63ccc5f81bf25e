import { and, eq } from 'drizzle-orm'
import { pipeline, pipelineVersion } from '../../schema/tables/index.ts'
import type { Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
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

/**
 * What a run of this path would run: the tenant's own pipeline, else the template as it is today, stored first as a
 * version of the tenant so that the run names what it ran. Throws NOT_FOUND.
 */
export async function pipelineToRun(
  tx: Tx,
  by: { tenantId: string; path: string; actor: string; requestId: string; isSystem?: boolean },
): Promise<CurrentPipeline> {
  const found = await findPipeline(tx, by.tenantId, by.path)
  if (found?.origin === 'tenant') return found
  const template = templateOf(by.path)
  if (!template || (isSystemPath(by.path) && !by.isSystem))
    throw new AppError('NOT_FOUND', 'There is neither a pipeline nor a template of this path.', {
      hint: 'See the queries pipelines and templates for what there is.',
      place: { path: 'pipeline' },
    })
  if (found?.sha256 === template.sha256) return found
  await storeVersion(tx, { ...by, origin: 'template', yaml: template.text, sha256: template.sha256 })
  const stored = await findPipeline(tx, by.tenantId, by.path)
  if (!stored) throw new Error('a stored template is not there')
  return stored
}
