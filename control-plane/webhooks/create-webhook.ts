import { count, eq, sql } from 'drizzle-orm'
import { z } from 'zod'
import { triggerLimits } from '../../schema/config/triggers.ts'
import { namePattern } from '../../schema/config/variables.ts'
import { tenantEnvironment, webhook } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { parsePipeline } from '../../shared/config/parse.ts'
import type { Problem } from '../../shared/config/problems.ts'
import type { Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { newId } from '../../shared/ids.ts'
import { sourceOf } from '../../shared/pipelines/find-pipeline.ts'
import type { WebhookRow } from '../../shared/webhooks/open-webhook.ts'
import { makeWebhookSecret } from '../../shared/webhooks/signature.ts'
import { type Context, inTenant } from '../context.ts'
import { checkedParameters, triggerName } from '../schedules/check-start.ts'

const shape = z.object({
  name: z.string().regex(triggerName),
  pipeline: z.string().min(1).max(200),
  parameters: z.unknown().optional(),
  mapping: z
    .record(z.string().regex(namePattern), z.string().regex(/^[\w-]{1,64}(\.[\w-]{1,64}){0,9}$/))
    .refine((given) => Object.keys(given).length <= 200)
    .nullish(),
  environment: z.string().max(32).nullish(),
  messagesPerMinute: z.int().min(1).max(600).nullish(),
})

/** The webhook and its secret, which is in this answer and nowhere else; or what is wrong with the file of its pipeline. */
export type Created = { webhook: WebhookRow; secret: string } | { problems: Problem[] }

/** A webhook to make; `mapping` and `parameters` come as JSON. */
export type NewWebhook = Omit<z.input<typeof shape>, 'mapping'> & { mapping?: unknown }

/**
 * Makes a webhook for a pipeline of the tenant or a template. Parameters of its runs are the fields of a message's body
 * by name, those of `mapping` by their path in it, and `parameters`, which no message changes. Throws BAD_INPUT with the
 * path, NOT_FOUND for pipeline or environment, ALREADY_EXISTS for the name, TOO_LARGE for more than 100.
 */
export async function createWebhook(context: Context, given: NewWebhook): Promise<Created> {
  const parsed = shape.safeParse(given)
  if (!parsed.success) throw badInput(String(parsed.error.issues[0]?.path[0] ?? ''), 'has another form')
  const input = parsed.data
  const parameters = checkedParameters(input.parameters ?? {})
  const mapping = input.mapping ?? {}
  return inTenant(context, async (tx, { tenantId, actor }) => {
    const by = { tenantId, actor, requestId: context.requestId }
    const problems = await checkNames(tx, by, input.pipeline, { parameters, mapping })
    if (problems) return { problems }
    await refuseNoEnvironment(tx, tenantId, input.environment)
    await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended('webhooks ' || ${tenantId}, 0))`)
    await refuseTooMany(tx, tenantId)
    const id = newId('webhook')
    const secret = makeWebhookSecret()
    const [row] = await tx
      .insert(webhook)
      .values({
        tenantId,
        id,
        name: input.name,
        pipeline: input.pipeline,
        parameters,
        mapping,
        environment: input.environment ?? null,
        sealed: await context.ports.secrets.seal(tx, { tenantId, credentialId: id, version: 1 }, { secret }),
        rateMax: input.messagesPerMinute ?? 60,
        createdBy: actor,
      })
      .onConflictDoNothing()
      .returning()
    if (!row) throw new AppError('ALREADY_EXISTS', 'There is a webhook of this name.', { place: { path: 'name' } })
    await audit(tx, {
      ...by,
      action: 'webhook.created',
      target: id,
      details: { name: row.name, pipeline: row.pipeline },
    })
    return { webhook: row, secret }
  })
}

async function checkNames(
  tx: Tx,
  by: { tenantId: string; actor: string; requestId: string },
  path: string,
  given: { parameters: object; mapping: object },
): Promise<Problem[] | undefined> {
  const source = await sourceOf(tx, { ...by, path })
  const parsed = parsePipeline(source.yaml, { file: `${path}.yml` })
  if ('problems' in parsed) return parsed.problems
  const declared = ['date', ...Object.keys(parsed.pipeline.parameters), ...Object.keys(parsed.pipeline.variables)]
  for (const [field, names] of Object.entries(given)) {
    const unknown = Object.keys(names).find((name) => !declared.includes(name))
    if (unknown !== undefined) throw badInput(field, `the pipeline declares no parameter "${unknown}"`)
  }
  return undefined
}

async function refuseNoEnvironment(tx: Tx, tenantId: string, name: string | null | undefined): Promise<void> {
  if (name === null || name === undefined) return
  const rows = await tx
    .select({ name: tenantEnvironment.name })
    .from(tenantEnvironment)
    .where(eq(tenantEnvironment.tenantId, tenantId))
  if (!rows.some((row) => row.name === name))
    throw new AppError('NOT_FOUND', 'There is no environment of this name.', { place: { path: 'environment' } })
}

async function refuseTooMany(tx: Tx, tenantId: string): Promise<void> {
  const [row] = await tx.select({ n: count() }).from(webhook).where(eq(webhook.tenantId, tenantId))
  if ((row?.n ?? 0) >= triggerLimits.webhooksMax)
    throw new AppError('TOO_LARGE', `A tenant has at most ${triggerLimits.webhooksMax} webhooks.`)
}

const badInput = (path: string, what: string): AppError =>
  new AppError('BAD_INPUT', `${path}: ${what}.`, { place: { path } })
