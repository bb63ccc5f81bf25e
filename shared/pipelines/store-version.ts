import { and, eq, sql } from 'drizzle-orm'
import { pipeline, pipelineVersion } from '../../schema/tables/index.ts'
import { audit } from '../audit.ts'
import type { Tx } from '../db/db.ts'
import { newId } from '../ids.ts'

/** A text for a path, and who brings it. */
export type NewVersion = {
  tenantId: string
  path: string
  origin: 'tenant' | 'template'
  yaml: string
  sha256: string
  actor: string
  requestId: string | null
}

/**
 * Stores a text as the pipeline's newest version, unless it is the current one. Two at once take turns. A template never
 * replaces what the tenant saved. `created` is false when nothing was written.
 */
export async function storeVersion(
  tx: Tx,
  given: NewVersion,
): Promise<{ pipelineId: string; version: number; origin: 'tenant' | 'template'; created: boolean }> {
  const { tenantId, path, origin, yaml, sha256, actor } = given
  await tx
    .insert(pipeline)
    .values({ tenantId, id: newId('pipeline'), path, origin, currentVersion: 1 })
    .onConflictDoNothing()
  const [row] = await tx
    .select()
    .from(pipeline)
    .where(and(eq(pipeline.tenantId, tenantId), eq(pipeline.path, path)))
    .for('update')
  if (!row) throw new Error('a stored pipeline is not there')
  const [current] = await tx
    .select({ sha256: pipelineVersion.sha256 })
    .from(pipelineVersion)
    .where(
      and(
        eq(pipelineVersion.tenantId, tenantId),
        eq(pipelineVersion.pipelineId, row.id),
        eq(pipelineVersion.version, row.currentVersion),
      ),
    )
  const isTaken = current !== undefined && row.origin === 'tenant' && origin === 'template'
  if (isTaken || (current?.sha256 === sha256 && row.origin === origin))
    return { pipelineId: row.id, version: row.currentVersion, origin: row.origin, created: false }
  const version = current ? row.currentVersion + 1 : row.currentVersion
  await tx.insert(pipelineVersion).values({ tenantId, pipelineId: row.id, version, yaml, sha256, createdBy: actor })
  await tx
    .update(pipeline)
    .set({ origin, currentVersion: version, updatedAt: sql`now()` })
    .where(and(eq(pipeline.tenantId, tenantId), eq(pipeline.id, row.id)))
  await audit(tx, {
    tenantId,
    actor,
    action: 'pipeline.saved',
    target: row.id,
    requestId: given.requestId ?? undefined,
    details: { path, version, origin, sha256 },
  })
  return { pipelineId: row.id, version, origin, created: true }
}
