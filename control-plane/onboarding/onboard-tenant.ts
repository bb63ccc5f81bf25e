import { eq } from 'drizzle-orm'
import { limitsOf, queueLimitOf } from '../../schema/config/tenant.ts'
import { tenantScopes } from '../../schema/roles.ts'
import { queueTypes } from '../../schema/states.ts'
import { tenant, tenantLimit, tenantQueue, tenantUser, userRole } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { newId } from '../../shared/ids.ts'
import { insertApiKey } from '../api-keys/create-api-key.ts'
import type { ApiKeyRow } from '../api-keys/graphql.ts'
import { authOf, type Context } from '../context.ts'
import { type Refusal, refusalOf } from '../graphql/user-errors.ts'
import { type OnboardRequest, onboardRequest } from './input.ts'
import { provisionByWorker } from './provision-by-worker.ts'
import { putSftp } from './put-sftp.ts'
import { note, once } from './step.ts'

/** The tenant as it stands after a call; key and token only from the call that finished the onboarding. */
export type Onboarded = {
  tenant: typeof tenant.$inferSelect
  created: boolean
  apiKey?: ApiKeyRow
  token?: string
  errors: Refusal[]
}

/**
 * Sets up a tenant. Each step is one transaction with its audit row and is done once: a repeat after a crash between any
 * two goes on there, and on an active tenant changes nothing. Lake and folders are made by a worker; when none answers in
 * time, UNAVAILABLE comes back beside the tenant, which stays provisioning. Throws BAD_INPUT, and ALREADY_EXISTS when the
 * id belongs to a tenant with another profile or to one that was offboarded.
 */
export async function onboardTenant(context: Context, given: unknown): Promise<Onboarded> {
  const request = onboardRequest(given)
  const row = await beginTenant(context, request)
  if (row.status === 'active') return { tenant: row, created: false, errors: [] }
  if (row.status === 'offboarded' || row.dismantled.length > 0)
    throw new AppError('ALREADY_EXISTS', 'A tenant of this id was offboarded; an id is never used again.', {
      hint: 'Choose another id.',
      place: { path: 'tenantId' },
    })
  if (row.status !== 'provisioning') throw new AppError('CONFLICT', `This tenant is ${row.status}.`)
  await once(context, row.id, 'keys', (tx) => makeKeys(context, tx, request))
  await once(context, row.id, 'queues', (tx) => makeQueues(tx, request))
  try {
    await provisionByWorker(context, request)
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    return { tenant: await tenantRow(context, row.id), created: false, errors: [refusalOf(error)] }
  }
  await once(context, row.id, 'user', (tx) => makeFirstUser(context, tx, request))
  const key = await once(context, row.id, 'active', (tx) => activate(context, tx, row.id))
  return { tenant: await tenantRow(context, row.id), created: key !== undefined, ...key, errors: [] }
}

// The tenant's row, made by this call or before it by one with the same profile.
function beginTenant(context: Context, { profile }: OnboardRequest): Promise<typeof tenant.$inferSelect> {
  return withTenant(context.ports.db, { tenantId: profile.id, side: 'api' }, async (tx) => {
    const [made] = await tx.insert(tenant).values(profile).onConflictDoNothing().returning()
    if (made) {
      await tx.insert(tenantLimit).values({ tenantId: profile.id, ...limitsOf(profile.plan) })
      await note(context, tx, profile.id, 'tenant')
      return made
    }
    const [found] = await tx.select().from(tenant).where(eq(tenant.id, profile.id))
    if (!found) throw new Error('a tenant that exists is not there')
    // Once the tenant has changed its settings, a repeat cannot know what it was asked for first.
    if (found.version === 1 && !isSameProfile(found, profile))
      throw new AppError('ALREADY_EXISTS', 'A tenant of this id exists with another profile.', {
        place: { path: 'tenantId' },
      })
    return found
  })
}

function isSameProfile(row: typeof tenant.$inferSelect, profile: OnboardRequest['profile']): boolean {
  const text = (of: OnboardRequest['profile'] | typeof row): string =>
    sorted([of.name, of.companyName, of.adminEmail, of.plan, of.configuration])
  return text(row) === text(profile)
}

// jsonb keeps no order of keys.
function sorted(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  )
}

async function makeKeys(context: Context, tx: Tx, { profile, sftp }: OnboardRequest): Promise<void> {
  const { secrets } = context.ports
  await secrets.createTenantKey(tx, profile.id)
  if (sftp) await putSftp(context, tx, profile.id, sftp)
}

async function makeQueues(tx: Tx, { profile }: OnboardRequest): Promise<void> {
  const maxRunning = queueLimitOf(profile.plan)
  await tx
    .insert(tenantQueue)
    .values(queueTypes.map((queue) => ({ tenantId: profile.id, queue, maxRunning })))
    .onConflictDoNothing()
}

async function makeFirstUser(context: Context, tx: Tx, { profile }: OnboardRequest): Promise<void> {
  const id = newId('user')
  await tx
    .insert(tenantUser)
    .values({ tenantId: profile.id, id, email: profile.adminEmail, username: profile.adminEmail, status: 'active' })
  await tx.insert(userRole).values({ tenantId: profile.id, userId: id, role: 'TENANT_ADMIN' })
  await audit(
    tx,
    {
      tenantId: profile.id,
      actor: authOf(context).actor,
      action: 'user.created',
      target: id,
      requestId: context.requestId,
      details: { role: 'TENANT_ADMIN' },
      subject: id,
      personal: { email: profile.adminEmail },
    },
    context.ports.secrets,
  )
}

async function activate(context: Context, tx: Tx, tenantId: string): Promise<{ apiKey: ApiKeyRow; token: string }> {
  await tx
    .update(tenant)
    .set({ status: 'active', activatedAt: context.ports.clock.now() })
    .where(eq(tenant.id, tenantId))
  return insertApiKey(tx, {
    tenantId,
    name: 'first key',
    scopes: tenantScopes,
    expiresAt: null,
    actor: authOf(context).actor,
    requestId: context.requestId,
  })
}

async function tenantRow(context: Context, id: string): Promise<typeof tenant.$inferSelect> {
  const [row] = await withTenant(context.ports.db, { tenantId: id, side: 'api' }, (tx) =>
    tx.select().from(tenant).where(eq(tenant.id, id)),
  )
  if (!row) throw new Error('a tenant that exists is not there')
  return row
}
