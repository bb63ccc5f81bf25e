import { parsePipeline } from '../../shared/config/parse.ts'
import type { Problem } from '../../shared/config/problems.ts'
import { AppError } from '../../shared/errors.ts'
import { needFeature } from '../../shared/features.ts'
import { type CurrentPipeline, findPipeline } from '../../shared/pipelines/find-pipeline.ts'
import { storeVersion } from '../../shared/pipelines/store-version.ts'
import { isSystemPath } from '../../shared/pipelines/templates.ts'
import { checkFollowed } from '../../shared/schedules/check-followed.ts'
import { planMinutes } from '../../shared/schedules/plan-minutes.ts'
import { syncTriggers } from '../../shared/schedules/sync-triggers.ts'
import { type Context, inTenant } from '../context.ts'

/** What became of a text: the pipeline with it, or everything that is wrong with it. */
export type Saved = { pipeline: CurrentPipeline; created: boolean; warnings: Problem[] } | { problems: Problem[] }

const pathPattern = /^[a-z0-9][a-z0-9_-]{0,62}(\/[a-z0-9][a-z0-9_-]{0,62}){2}$/

/**
 * Saves a pipeline file under `<provider>/<domain>/<template>` as its newest version; the same text again changes
 * nothing. From then on it wins over a template of that path, and its schedule and triggers are in force. Throws BAD_INPUT for a path that is none or is reserved,
 * FEATURE_OFF for a tenant that runs templates alone.
 */
export async function savePipeline(context: Context, input: { path: string; yaml: string }): Promise<Saved> {
  if (!pathPattern.test(input.path))
    throw new AppError('BAD_INPUT', 'path must be <provider>/<domain>/<template> in lower case.', {
      place: { path: 'path' },
    })
  if (isSystemPath(input.path))
    throw new AppError('BAD_INPUT', 'Paths under system/ belong to the platform.', { place: { path: 'path' } })
  const sha256 = await sha256Of(input.yaml)
  return inTenant(context, async (tx, { tenantId, actor }) => {
    const scheduleMinutesMin = await planMinutes(tx, tenantId)
    const parsed = parsePipeline(input.yaml, { file: `${input.path}.yml`, scheduleMinutesMin })
    if ('problems' in parsed) return parsed
    await needFeature(tx, tenantId, 'customPipelines')
    const problems = await checkFollowed(tx, { tenantId, path: input.path }, parsed.pipeline, parsed.report)
    if (problems.length > 0) return { problems }
    const by = { tenantId, actor, requestId: context.requestId }
    const { created } = await storeVersion(tx, { ...by, ...input, origin: 'tenant', sha256 })
    await syncTriggers(tx, { ...by, path: input.path }, parsed.pipeline)
    const pipeline = await findPipeline(tx, tenantId, input.path)
    if (!pipeline) throw new Error('a saved pipeline is not there')
    return { pipeline, created, warnings: parsed.warnings }
  })
}

async function sha256Of(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text))
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('')
}
