import { and, count, eq, sql } from 'drizzle-orm'
import { z } from 'zod'
import { misfires, overlaps, triggerLimits } from '../../schema/config/triggers.ts'
import { schedule } from '../../schema/tables/index.ts'
import { tooOften } from '../../shared/config/check-triggers.ts'
import type { Problem } from '../../shared/config/problems.ts'
import type { Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { cronFault, isTooOften, zoneFault } from '../../shared/schedules/cron.ts'
import type { ScheduleRow } from '../../shared/schedules/fire-schedule.ts'
import { planMinutes } from '../../shared/schedules/plan-minutes.ts'
import { fileSchedule, writeSchedule } from '../../shared/schedules/sync-triggers.ts'
import { type Context, inTenant } from '../context.ts'
import { checkedParameters, checkStart, triggerName } from './check-start.ts'
import { readSchedule } from './read-schedules.ts'

const shape = z.object({
  pipeline: z.string().min(1).max(200),
  name: z.string().nullish(),
  cron: z.string().min(1).max(100),
  timezone: z.string().max(64).nullish(),
  parameters: z.unknown().optional(),
  environment: z.string().max(32).nullish(),
  misfire: z.enum(misfires).nullish(),
  catchupMax: z.int().nullish(),
  overlap: z.enum(overlaps).nullish(),
  expectedVersion: z.int().nullish(),
})

/** The saved schedule, and whether it is new; or what is wrong with the file of its pipeline. */
export type Upserted = { schedule: ScheduleRow; created: boolean } | { problems: Problem[] }

/**
 * Makes the schedule of this pipeline and name, or changes it: what is absent stays, or takes its default. Times that were
 * decided stay decided. Throws BAD_INPUT with the path, NOT_FOUND for the pipeline or the environment, PARAMETER_INVALID
 * for parameters that its runs would not be given, CONFLICT for another version and for the schedule of a file, TOO_LARGE
 * for more than 500.
 */
export async function upsertSchedule(context: Context, given: z.input<typeof shape>): Promise<Upserted> {
  const parsed = shape.safeParse(given)
  if (!parsed.success) throw badInput(String(parsed.error.issues[0]?.path[0] ?? ''), 'has another form')
  const input = parsed.data
  const name = input.name ?? 'default'
  if (!triggerName.test(name)) throw badInput('name', 'must be lower case letters, digits, _ and -, at most 63')
  if (name === fileSchedule) throw belongsToFile()
  const saved = await inTenant(context, async (tx, { tenantId, actor }) => {
    await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended('schedules ' || ${tenantId}, 0))`)
    const [row] = await tx
      .select()
      .from(schedule)
      .where(and(eq(schedule.tenantId, tenantId), eq(schedule.pipeline, input.pipeline), eq(schedule.name, name)))
      .for('update')
    refuseOtherVersion(input.expectedVersion, row)
    const content = {
      name,
      source: 'api' as const,
      cron: input.cron,
      timezone: input.timezone ?? row?.timezone ?? 'UTC',
      parameters: checkedParameters(input.parameters ?? row?.parameters ?? {}),
      environment: input.environment === undefined ? (row?.environment ?? null) : input.environment,
      misfire: input.misfire ?? row?.misfire ?? 'latest',
      catchupMax: input.catchupMax ?? row?.catchupMax ?? 100,
      overlap: input.overlap ?? row?.overlap ?? 'allow',
    }
    await refuseTimes(tx, tenantId, content)
    if (content.catchupMax < 1 || content.catchupMax > 1000) throw badInput('catchupMax', 'must be 1 to 1,000')
    const by = { tenantId, actor, requestId: context.requestId, path: input.pipeline }
    const problems = await checkStart(tx, { ...by, ...content, trigger: 'schedule' })
    if (problems) return { problems }
    if (!row) await refuseTooMany(tx, tenantId)
    return writeSchedule(tx, by, row, content)
  })
  if ('problems' in saved) return saved
  return { schedule: await readSchedule(context, saved.id), created: saved.created }
}

async function refuseTimes(tx: Tx, tenantId: string, times: { cron: string; timezone: string }): Promise<void> {
  const cron = cronFault(times.cron)
  if (cron) throw badInput('cron', cron)
  const zone = zoneFault(times.timezone)
  if (zone) throw badInput('timezone', zone)
  const minutes = await planMinutes(tx, tenantId)
  if (isTooOften(times, minutes)) throw badInput('cron', tooOften(minutes))
}

function refuseOtherVersion(expected: number | null | undefined, row: ScheduleRow | undefined): void {
  const current = row?.version ?? 0
  if (expected === null || expected === undefined || expected === current) return
  throw new AppError('CONFLICT', `This schedule is at version ${current}, not ${expected}.`, {
    place: { path: 'expectedVersion' },
    figures: { version: { expected, current } },
  })
}

async function refuseTooMany(tx: Tx, tenantId: string): Promise<void> {
  const [row] = await tx.select({ n: count() }).from(schedule).where(eq(schedule.tenantId, tenantId))
  if ((row?.n ?? 0) >= triggerLimits.schedulesMax)
    throw new AppError('TOO_LARGE', `A tenant has at most ${triggerLimits.schedulesMax} schedules.`)
}

/** The schedule of a file changes with the file. */
export const belongsToFile = (): AppError =>
  new AppError('CONFLICT', `The schedule "${fileSchedule}" is that of the pipeline's file.`, {
    hint: 'Save the pipeline with another `schedule:`, or without one.',
    place: { path: 'name' },
  })

const badInput = (path: string, what: string): AppError =>
  new AppError('BAD_INPUT', `${path}: ${what}.`, { place: { path } })
