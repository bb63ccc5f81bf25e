import { hash } from 'node:crypto'
import { join } from 'node:path'
import { and, eq, sql } from 'drizzle-orm'
import { sftpShape } from '../../schema/config/credentials.ts'
import { durationMs } from '../../schema/config/duration.ts'
import type { FileTrigger } from '../../schema/config/triggers.ts'
import { pipelineTrigger, seenFile } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { rowsOf, type Tx, withLedger, withTenant } from '../../shared/db/db.ts'
import { AppError, errorData } from '../../shared/errors.ts'
import { describeError } from '../../shared/log.ts'
import type { Ports } from '../../shared/ports.ts'
import { liveSecrets } from '../../shared/redact.ts'
import { type Tried, tryStart } from '../../shared/runs/try-start.ts'
import { announce } from '../../shared/schedules/fire-due.ts'
import { openStored } from '../../shared/secrets/secret-box.ts'
import { namedCredential } from '../step-input.ts'
import { filePattern, type FileSource, type Listing } from './file-source.ts'
import { folderSource } from './folder-source.ts'
import { sftpSource } from './sftp-source.ts'

/** Where tenants' folders are and what a watch may reach. */
export type WatchOptions = { dataDir: string; allowPrivateNetwork: boolean; tenants?: readonly string[] | undefined }

/** A watched folder's row. */
export type WatchRow = typeof pipelineTrigger.$inferSelect & { settings: FileTrigger }

/** Folders that one process looks at together. */
export const watchesAtOnce = 8
const leaseMs = 90_000
const lookTimeoutMs = 60_000
const startsPerLook = 20
const waitMsMax = 3_600_000
// A log that said every look would say nothing else.
const openingNotedEveryMs = 3_600_000

/**
 * Looks once at each watched folder whose turn it is, a few at a time, and starts a run for each file that has arrived: it
 * lies there with the same size and time for as long as the trigger says, over two looks at least. A file counts once,
 * in however many processes this runs; nothing is ever done to it. What cannot be looked at is tried again, more and more
 * rarely, and its trigger says why. Answers how many folders it looked at.
 */
export async function watchFiles(ports: Ports, options: WatchOptions, stop: AbortSignal): Promise<number> {
  const tenants = options.tenants ? JSON.stringify(options.tenants) : null
  const due = await withLedger(ports.db, 'worker', (tx) =>
    rowsOf<{ tenantId: string; id: string }>(
      tx,
      sql`select o_tenant as "tenantId", o_id as id from app.claim_watches(${watchesAtOnce}, ${leaseMs},
            case when ${tenants}::jsonb is not null then array(select jsonb_array_elements_text(${tenants}::jsonb)) end)`,
    ),
  )
  await Promise.all(due.map((watch) => look(ports, options, watch, stop)))
  return due.length
}

type WatchId = { tenantId: string; id: string }

async function look(ports: Ports, options: WatchOptions, watch: WatchId, stop: AbortSignal): Promise<void> {
  const signal = AbortSignal.any([stop, AbortSignal.timeout(lookTimeoutMs)])
  try {
    const row = await inTenant(ports, watch, (tx) => readWatch(tx, watch))
    if (!row) return
    const pattern = filePattern(row.settings.path)
    await using source = await sourceOf(ports, options, row, signal)
    const listing = await source.list(pattern)
    const runs = await inTenant(ports, watch, (tx) => take(tx, row, listing))
    for (const runId of runs) await announce(ports, { tenantId: watch.tenantId, runId }, 'worker')
  } catch (error) {
    // Who stops looks again when it is back.
    if (stop.aborted) return
    if (!(error instanceof AppError)) ports.log.error('watch.failed', { ...watch, error: describeError(error) })
    await inTenant(ports, watch, (tx) => noteFailure(tx, watch, error))
  }
}

async function readWatch(tx: Tx, { tenantId, id }: WatchId): Promise<WatchRow | undefined> {
  const [row] = await tx
    .select()
    .from(pipelineTrigger)
    .where(and(eq(pipelineTrigger.tenantId, tenantId), eq(pipelineTrigger.id, id), eq(pipelineTrigger.enabled, true)))
  return row?.settings.on === 'file' ? { ...row, settings: row.settings } : undefined
}

async function sourceOf(
  ports: Ports,
  { dataDir, allowPrivateNetwork }: WatchOptions,
  row: WatchRow,
  signal: AbortSignal,
): Promise<FileSource> {
  const { credential } = row.settings
  if (credential === undefined) return folderSource(join(dataDir, 'tenants', row.tenantId, 'files'))
  const secret = await inTenant(ports, row, (tx) => openSecret(tx, ports, row, credential))
  using _held = liveSecrets.guard(secret)
  return await sftpSource(secret, { allowPrivateNetwork, signal, connectTimeoutMs: 20_000, idleTimeoutMs: 20_000 })
}

async function openSecret(tx: Tx, ports: Ports, row: WatchRow, name: string) {
  const { tenantId } = row
  const found = await openStored(tx, ports.secrets, async () => {
    const stored = await namedCredential(tx, tenantId, name)
    return { ...stored, owner: { tenantId, credentialId: stored.id, version: stored.version } }
  })
  const secret = sftpShape.safeParse(found?.secret)
  if (!found || found.row.provider !== 'sftp' || !secret.success)
    throw new AppError('CREDENTIAL_INVALID', `The credential ${JSON.stringify(name)} is for no SFTP server.`)
  if (!row.openedAt || ports.clock.now().getTime() - row.openedAt.getTime() > openingNotedEveryMs) {
    await audit(tx, {
      tenantId,
      actor: `trigger:${row.id}`,
      action: 'credential.opened',
      target: found.row.id,
      details: { trigger: row.id, version: found.row.version, every: row.settings.every },
    })
    await tx
      .update(pipelineTrigger)
      .set({ openedAt: sql`now()` })
      .where(isTrigger(row))
  }
  return secret.data
}

// What is there now, what of it has lain still for long enough, and the runs for that, in one transaction.
async function take(tx: Tx, row: WatchRow, listing: Listing): Promise<string[]> {
  const [current] = await tx.select().from(pipelineTrigger).where(isTrigger(row)).for('update')
  if (!current?.enabled || current.settings.on !== 'file') return []
  await remember(tx, row, listing)
  const settleMs = durationMs(row.settings.settle)
  const ready = await tx
    .select()
    .from(seenFile)
    .where(
      and(
        eq(seenFile.tenantId, row.tenantId),
        eq(seenFile.triggerId, row.id),
        eq(seenFile.state, 'pending'),
        // What this very look has found is later than the start of its transaction.
        sql`${seenFile.firstSeenAt} < now() and ${seenFile.firstSeenAt} <= now() - ${settleMs} * interval '1 ms'`,
      ),
    )
    .orderBy(seenFile.modifiedAt, seenFile.name)
    .limit(startsPerLook)
  const runs: string[] = []
  let problem: WatchRow['problem'] =
    listing.refused > 0
      ? { code: 'PATH_INVALID', message: `${listing.refused} files have names that are not taken.` }
      : null
  for (const file of ready) {
    const started = await start(tx, row, file)
    if ('runId' in started) runs.push(started.runId)
    else problem = started.problem
    if ('retry' in started && started.retry !== 'never') break
    const outcome =
      'runId' in started
        ? { state: 'started' as const, runId: started.runId }
        : { state: 'refused' as const, problem: started.problem }
    await tx.update(seenFile).set(outcome).where(isFile(file))
  }
  await tx
    .update(pipelineTrigger)
    .set({
      failures: 0,
      problem,
      lookedAt: sql`now()`,
      claimedUntil: sql`now()`,
      nextLookAt: sql`now() + ${await nextLookMs(tx, row, ready.length === startsPerLook)} * interval '1 ms'`,
    })
    .where(isTrigger(row))
  return runs
}

async function remember(tx: Tx, { tenantId, id }: WatchRow, { files }: Listing): Promise<void> {
  const listed = JSON.stringify(
    files.map(({ name, size, modifiedAt }) => ({ name, size, modified_at: modifiedAt.toISOString() })),
  )
  const rows = sql`jsonb_to_recordset(${listed}::jsonb) as x(name text, size bigint, modified_at timestamptz)`
  await tx.execute(sql`
    insert into app.seen_file as f (tenant_id, trigger_id, name, size, modified_at)
    select ${tenantId}, ${id}, x.name, x.size, x.modified_at from ${rows}
    on conflict (tenant_id, trigger_id, name, size, modified_at)
      do update set last_seen_at = clock_timestamp() where f.last_seen_at < now() - interval '1 day'`)
  // Gone before it counted, or changed and so another one.
  await tx.execute(sql`
    delete from app.seen_file f where f.tenant_id = ${tenantId} and f.trigger_id = ${id} and f.state = 'pending'
      and not exists (select from ${rows} where x.name = f.name and x.size = f.size and x.modified_at = f.modified_at)`)
}

function start(tx: Tx, row: WatchRow, file: typeof seenFile.$inferSelect): Promise<Tried> {
  const { folder } = filePattern(row.settings.path)
  const identity = JSON.stringify([file.name, file.size, file.modifiedAt.toISOString()])
  return tryStart(tx, {
    tenantId: row.tenantId,
    actor: `trigger:${row.id}`,
    requestId: null,
    path: row.pipeline,
    trigger: 'file',
    parameters: row.settings.parameters,
    offered: { file: folder === '' ? file.name : `${folder}/${file.name}`, file_name: file.name },
    idempotencyKey: `file:${row.id}:${hash('sha256', identity)}`,
    inputHash: null,
  })
}

// Sooner when something waits to settle, and at once when there is more than one look takes.
async function nextLookMs(tx: Tx, { tenantId, id, settings }: WatchRow, hasMore: boolean): Promise<number> {
  const every = durationMs(settings.every)
  if (hasMore) return 0
  const [waiting] = await tx
    .select({ name: seenFile.name })
    .from(seenFile)
    .where(and(eq(seenFile.tenantId, tenantId), eq(seenFile.triggerId, id), eq(seenFile.state, 'pending')))
    .limit(1)
  return waiting ? Math.min(every, Math.max(1000, durationMs(settings.settle))) : every
}

async function noteFailure(tx: Tx, watch: WatchId, error: unknown): Promise<void> {
  const { code, message, hint } = errorData(error)
  const row = await readWatch(tx, watch)
  if (!row) return
  const waitMs = Math.min(waitMsMax, Math.max(5000, durationMs(row.settings.every)) * 2 ** Math.min(row.failures, 20))
  await tx
    .update(pipelineTrigger)
    .set({
      failures: row.failures + 1,
      problem: { code, message: liveSecrets.text(message), hint },
      lookedAt: sql`now()`,
      claimedUntil: sql`now()`,
      nextLookAt: sql`now() + ${waitMs} * interval '1 ms'`,
    })
    .where(isTrigger(watch))
}

const inTenant = <T>(ports: Ports, { tenantId }: { tenantId: string }, work: (tx: Tx) => Promise<T>): Promise<T> =>
  withTenant(ports.db, { tenantId, side: 'worker' }, work)

const isTrigger = ({ tenantId, id }: WatchId) => and(eq(pipelineTrigger.tenantId, tenantId), eq(pipelineTrigger.id, id))

const isFile = (file: typeof seenFile.$inferSelect) =>
  and(
    eq(seenFile.tenantId, file.tenantId),
    eq(seenFile.triggerId, file.triggerId),
    eq(seenFile.name, file.name),
    eq(seenFile.size, file.size),
    eq(seenFile.modifiedAt, file.modifiedAt),
  )
