import { and, count, eq, inArray, sql } from 'drizzle-orm'
import { z } from 'zod'
import { backfillSteps, triggerLimits } from '../../schema/config/triggers.ts'
import { backfill, backfillSlot, schedule } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import type { Problem } from '../../shared/config/problems.ts'
import type { Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { newId } from '../../shared/ids.ts'
import { backfillSlots, type Slot } from '../../shared/schedules/backfill-slots.ts'
import type { BackfillRow } from '../../shared/schedules/run-backfill.ts'
import { type Context, inTenant } from '../context.ts'
import { checkedParameters, checkStart } from '../schedules/check-start.ts'
import { noSuchSchedule } from '../schedules/read-schedules.ts'
import { readBackfill } from './read-backfills.ts'

const shape = z.object({
  pipeline: z.string().min(1).max(200).nullish(),
  from: z.string(),
  to: z.string(),
  every: z.enum(backfillSteps).nullish(),
  scheduleId: z.string().max(100).nullish(),
  parameters: z.unknown().optional(),
  environment: z.string().max(32).nullish(),
  maxActive: z.int().min(1).max(50).nullish(),
})

/** The backfill; or what is wrong with the file of its pipeline. */
export type Begun = { backfill: BackfillRow } | { problems: Problem[] }

/**
 * Plans a run of a pipeline for each slot of a range of days; whoever ticks starts them, oldest first, at most `maxActive`
 * (default 1) unfinished at once. With a schedule its pipeline, times, parameters and environment are taken unless given.
 * Throws BAD_INPUT with the path, NOT_FOUND, PARAMETER_INVALID, TOO_LARGE for more than 1,000 slots or 20 open backfills.
 */
export async function startBackfill(context: Context, given: z.input<typeof shape>): Promise<Begun> {
  const parsed = shape.safeParse(given)
  if (!parsed.success) throw badInput(String(parsed.error.issues[0]?.path[0] ?? ''), 'has another form')
  const input = parsed.data
  if (input.to < input.from) throw badInput('to', 'lies before from')
  const begun = await inTenant(
    context,
    async (tx, { tenantId, actor }): Promise<{ id: string } | { problems: Problem[] }> => {
      const times = await timesOf(tx, tenantId, input)
      const slots = backfillSlots(input, times.every)
      if (slots.length === 0) throw badInput('to', 'no time of the schedule lies in the range')
      if (slots.length > triggerLimits.slotsMax)
        throw new AppError('TOO_LARGE', `A backfill has at most ${triggerLimits.slotsMax} slots.`, {
          place: { path: 'to' },
          hint: 'Take a shorter range, or fewer times.',
        })
      const by = { tenantId, actor, requestId: context.requestId }
      const content = {
        pipeline: times.pipeline,
        parameters: checkedParameters(input.parameters ?? times.parameters),
        environment: input.environment ?? times.environment,
      }
      if (Object.hasOwn(content.parameters, 'date')) throw badInput('parameters', 'date is that of each slot')
      const problems = await checkStart(tx, { ...by, ...content, path: content.pipeline, trigger: 'backfill' })
      if (problems) return { problems }
      await refuseTooMany(tx, tenantId)
      const id = newId('backfill')
      await tx.insert(backfill).values({
        ...content,
        tenantId,
        id,
        fromDay: input.from,
        toDay: input.to,
        every: input.every ?? (input.scheduleId ? 'SCHEDULE' : 'DAY'),
        scheduleId: input.scheduleId ?? null,
        maxActive: input.maxActive ?? 1,
        total: slots.length,
        createdBy: actor,
      })
      await insertSlots(tx, tenantId, id, slots)
      const details = { pipeline: content.pipeline, from: input.from, to: input.to, slots: slots.length }
      await audit(tx, { ...by, action: 'backfill.started', target: id, details })
      return { id }
    },
  )
  return 'problems' in begun ? begun : { backfill: await readBackfill(context, begun.id) }
}

type Input = z.output<typeof shape>
type Times = {
  pipeline: string
  parameters: Record<string, unknown>
  environment: string | null
  every: Parameters<typeof backfillSlots>[1]
}

async function timesOf(tx: Tx, tenantId: string, input: Input): Promise<Times> {
  const { pipeline, every, scheduleId } = input
  if (!scheduleId) {
    if (!pipeline) throw badInput('pipeline', 'is needed where no schedule is named')
    if (every === 'SCHEDULE') throw badInput('scheduleId', 'is needed for the times of a schedule')
    return { pipeline, parameters: {}, environment: null, every: every ?? 'DAY' }
  }
  if (every && every !== 'SCHEDULE') throw badInput('every', 'is SCHEDULE where a schedule is named')
  const [row] = await tx
    .select()
    .from(schedule)
    .where(and(eq(schedule.tenantId, tenantId), eq(schedule.id, scheduleId)))
  if (!row) throw noSuchSchedule('scheduleId')
  const { date: _date, ...parameters } = row.parameters
  return { pipeline: pipeline ?? row.pipeline, parameters, environment: row.environment, every: row }
}

async function refuseTooMany(tx: Tx, tenantId: string): Promise<void> {
  await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended('backfills ' || ${tenantId}, 0))`)
  const [row] = await tx
    .select({ n: count() })
    .from(backfill)
    .where(and(eq(backfill.tenantId, tenantId), inArray(backfill.state, ['running', 'paused'])))
  if ((row?.n ?? 0) >= triggerLimits.backfillsMax)
    throw new AppError('TOO_LARGE', `A tenant has at most ${triggerLimits.backfillsMax} open backfills.`)
}

async function insertSlots(tx: Tx, tenantId: string, backfillId: string, slots: readonly Slot[]): Promise<void> {
  await tx.insert(backfillSlot).values(slots.map((slot) => ({ ...slot, tenantId, backfillId })))
}

const badInput = (path: string, what: string): AppError =>
  new AppError('BAD_INPUT', `${path}: ${what}.`, { place: { path } })
