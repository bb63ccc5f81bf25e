import { and, eq, sql } from 'drizzle-orm'
import type { Pipeline } from '../../schema/config/pipeline.ts'
import { misfireOf, type TriggerSettings } from '../../schema/config/triggers.ts'
import { pipelineTrigger, schedule } from '../../schema/tables/index.ts'
import { audit } from '../audit.ts'
import type { Tx } from '../db/db.ts'
import { newId } from '../ids.ts'
import { databaseTime, firstTime, type ScheduleRow } from './fire-schedule.ts'

/** The name of the schedule that a pipeline's own file makes; the API makes others beside it. */
export const fileSchedule = 'yaml'

/** Whose file it is, and who saves it. */
export type SavedBy = { tenantId: string; path: string; actor: string; requestId: string }

/**
 * Makes schedule and triggers of a pipeline what its file says, in the transaction that saves the file. What did not
 * change stays untouched, and a paused schedule paused. A trigger that has left the file is disabled and remembers what it
 * saw, in case it comes back.
 */
export async function syncTriggers(tx: Tx, by: SavedBy, pipeline: Pipeline): Promise<void> {
  await syncSchedule(tx, by, pipeline)
  const known = await tx
    .select()
    .from(pipelineTrigger)
    .where(and(eq(pipelineTrigger.tenantId, by.tenantId), eq(pipelineTrigger.pipeline, by.path)))
    .for('update')
  const isOf = (row: (typeof known)[number], wanted: TriggerSettings): boolean =>
    row.kind === wanted.on && row.target === targetOf(wanted)
  for (const wanted of pipeline.triggers) {
    const row = known.find((candidate) => isOf(candidate, wanted))
    if (row?.enabled && canonical(row.settings) === canonical(wanted)) continue
    const id = row?.id ?? newId('trigger')
    await tx
      .insert(pipelineTrigger)
      .values({
        tenantId: by.tenantId,
        id,
        pipeline: by.path,
        kind: wanted.on,
        target: targetOf(wanted),
        settings: wanted,
      })
      .onConflictDoUpdate({
        target: [pipelineTrigger.tenantId, pipelineTrigger.pipeline, pipelineTrigger.kind, pipelineTrigger.target],
        set: { settings: wanted, enabled: true, failures: 0, problem: null, nextLookAt: sql`now()` },
      })
    await note(tx, by, 'trigger.saved', id, { on: wanted.on, target: targetOf(wanted) })
  }
  for (const row of known) {
    if (!row.enabled || pipeline.triggers.some((wanted) => isOf(row, wanted))) continue
    await tx
      .update(pipelineTrigger)
      .set({ enabled: false })
      .where(and(eq(pipelineTrigger.tenantId, by.tenantId), eq(pipelineTrigger.id, row.id)))
    await note(tx, by, 'trigger.removed', row.id, { on: row.kind, target: row.target })
  }
}

/** What a trigger waits for: a folder by credential and pattern, or a pipeline by its path. */
export const targetOf = (settings: TriggerSettings): string =>
  settings.on === 'file' ? `${settings.credential ?? ''}:${settings.path}` : settings.pipeline

async function syncSchedule(tx: Tx, by: SavedBy, { schedule: wanted }: Pipeline): Promise<void> {
  const [row] = await tx
    .select()
    .from(schedule)
    .where(and(eq(schedule.tenantId, by.tenantId), eq(schedule.pipeline, by.path), eq(schedule.name, fileSchedule)))
    .for('update')
  if (!wanted) {
    if (!row) return
    await tx.delete(schedule).where(and(eq(schedule.tenantId, by.tenantId), eq(schedule.id, row.id)))
    return note(tx, by, 'schedule.deleted', row.id, { source: 'yaml' })
  }
  const { cron, timezone, overlap, parameters } = wanted
  await writeSchedule(tx, by, row, {
    name: fileSchedule,
    source: 'yaml',
    cron,
    timezone,
    overlap,
    parameters,
    misfire: misfireOf(wanted.catchup),
    catchupMax: 100,
    environment: null,
  })
}

/** What a schedule says. */
export type ScheduleContent = Pick<
  ScheduleRow,
  'name' | 'source' | 'cron' | 'timezone' | 'overlap' | 'parameters' | 'misfire' | 'catchupMax' | 'environment'
>

/**
 * Writes a schedule over the row that there is, which the caller holds, or as a new one; answers its id. The same content
 * again changes nothing. Times that were decided stay decided: a change counts from now on.
 */
export async function writeSchedule(
  tx: Tx,
  by: SavedBy,
  row: ScheduleRow | undefined,
  content: ScheduleContent,
): Promise<{ id: string; created: boolean }> {
  if (row && contentKeys.every((key) => canonical(row[key]) === canonical(content[key])))
    return { id: row.id, created: false }
  const first = firstTime(content, await databaseTime(tx))
  const id = row?.id ?? newId('schedule')
  if (row) {
    const isSameTimes = row.cron === content.cron && row.timezone === content.timezone
    const nextFireAt = row.pausedAt ? null : isSameTimes ? row.nextFireAt : first
    await tx
      .update(schedule)
      .set({ ...content, nextFireAt, version: row.version + 1, failures: 0, problem: null, updatedAt: sql`now()` })
      .where(and(eq(schedule.tenantId, by.tenantId), eq(schedule.id, id)))
  } else {
    await tx
      .insert(schedule)
      .values({ ...content, tenantId: by.tenantId, id, pipeline: by.path, nextFireAt: first, createdBy: by.actor })
  }
  const { cron, timezone, source, name } = content
  await note(tx, by, 'schedule.saved', id, { pipeline: by.path, name, source, cron, timezone })
  return { id, created: row === undefined }
}

const contentKeys = [
  'name',
  'source',
  'cron',
  'timezone',
  'overlap',
  'parameters',
  'misfire',
  'catchupMax',
  'environment',
] as const satisfies readonly (keyof ScheduleContent)[]

// jsonb keeps no order of keys.
const canonical = (value: unknown): string =>
  JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  ) ?? ''

function note(
  tx: Tx,
  { tenantId, actor, requestId }: SavedBy,
  action: string,
  target: string,
  details: Record<string, unknown>,
): Promise<void> {
  return audit(tx, { tenantId, actor, requestId, action, target, details })
}
