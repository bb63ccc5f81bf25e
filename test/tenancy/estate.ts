import { sql } from 'drizzle-orm'
import type { App } from '../../control-plane/app.ts'
import { type Role, systemRoles, tenantRoles } from '../../schema/roles.ts'
import { claimSteps, failStep, reportStep } from '../../shared/runs/ledger.ts'
import { AppError, errorData } from '../../shared/errors.ts'
import { rowsOf, withLedger } from '../../shared/db/db.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { type ControlPlane, controlPlane, type Loose } from '../support/control-plane.ts'
import { tamper } from '../support/database.ts'
import { goodPassword, people } from '../support/people.ts'
import { askGraphql, type Caller } from './ask.ts'
import { openLakes } from './lakes.ts'

/** A tenant that owns at least one of everything that can be made through the API, each text marked as its own. */
export type House = {
  id: string
  /** Part of every text that the house made, and of nothing else. */
  mark: string
  admin: Caller
  /** What it gave away in confidence: no answer may hold it, to whomever. */
  secrets: string[]
}

/** Two tenants that own things, a third for what would end a tenant, and everybody who may ask. */
export type Estate = AsyncDisposable & {
  plane: ControlPlane
  app: App
  /** Asks. */
  a: House
  /** Is asked about. */
  b: House
  /** Lives only to be suspended, moved and ended by the platform. */
  c: House
  /** All who ask in the name of A, or of nobody. */
  callers: readonly Caller[]
  platform: Caller
  /** Keys of the platform that may only read. */
  readers: readonly Caller[]
  /** A word that was never used before, of so many letters. */
  fresh(letters?: number): string
}

const file = (mark: string): string =>
  `pipeline_id: p\nvariables:\n  word: ${mark}_variable\nsteps:\n  - step_id: only\n    ps_type: file.delete\n    paths: ["${mark}_file_{word}"]\n`

const triggers = (mark: string): string =>
  `parameters: { file: { type: string } }\ntriggers:\n  - { on: file, path: ${mark}_in/a.csv }\n  - { on: pipeline, pipeline: ${mark}/orders/p1 }\n`

/** Builds the estate on an embedded database; takes a few seconds. */
export async function openEstate(): Promise<Estate> {
  const plane = await controlPlane()
  const app = plane.appWith({ waits: { provisionMs: 20, streamMs: 60 } })
  let count = 0
  const fresh = (letters = 12): string => `n${(++count).toString(36).padStart(letters - 1, 'q')}`
  const platform: Caller = { name: 'PLATFORM_ADMIN', token: plane.platformToken, role: 'PLATFORM_ADMIN' }

  const house = async (letter: string): Promise<House> => {
    const mark = `zq${letter}${crypto.randomUUID().replaceAll('-', '').slice(0, 12)}`
    const { id, token } = await plane.tenant(`t${mark}`)
    const admin: Caller = { name: 'TENANT_ADMIN', token, role: 'TENANT_ADMIN' }
    return { id, mark, admin, secrets: [token] }
  }
  const a = await house('a')
  const b = await house('b')
  const c = await house('c')
  await liftLimits(plane)
  for (const one of [a, b]) await furnish(plane, app, one)
  const lakes = await openLakes(plane, [a, b])
  // The first entry of its log.
  await askGraphql(app, c.admin, { document: 'mutation { createApiKey(input: { name: "any" }) { token } }' })

  const keyFor = async (role: Role, of: string): Promise<Caller> => {
    const { data } = await askGraphql(app, platform, {
      document: 'mutation ($input: CreateApiKeyInput!) { createApiKey(input: $input) { token errors { message } } }',
      variables: { input: { tenantId: of, name: `key of ${role}`, role } },
    })
    return { name: role, role, token: String(data.createApiKey.token) }
  }
  const living: Caller[] = []
  for (const role of tenantRoles) living.push(role === 'TENANT_ADMIN' ? a.admin : await keyFor(role, a.id))
  const who = people(plane, app)
  const signIn = async (house: House): Promise<string> => {
    const email = `${house.mark}_person@people.example`
    const person = await who.signUp({ id: house.id, token: house.admin.token ?? '' }, { email })
    const { accessToken, refreshToken } = await who.login(person)
    house.secrets.push(accessToken, refreshToken)
    return accessToken
  }
  await signIn(b)
  living.push({ name: 'a session', token: await signIn(a), role: 'TENANT_ADMIN' })
  const left = await who.login({ tenantId: a.id, email: `${a.mark}_person@people.example`, password: goodPassword })
  await who.done('logout', {}, { token: left.accessToken })
  const readers: Caller[] = []
  for (const role of systemRoles) if (role !== 'PLATFORM_ADMIN') readers.push(await keyFor(role, 'platform'))
  const past = new Date(Date.now() - 60_000)
  const dead: Caller[] = [
    { name: 'an expired key', token: await plane.key(a.id, { expiresAt: past }) },
    { name: 'a revoked key', token: await plane.key(a.id, { revokedAt: past }) },
    { name: 'an ended session', token: left.accessToken },
    { name: 'a key that there never was', token: (await makeApiKey()).token },
    { name: 'no key' },
  ]
  return {
    plane,
    app,
    a,
    b,
    c,
    callers: [...living, ...dead],
    platform,
    readers,
    fresh,
    async [Symbol.asyncDispose]() {
      await lakes[Symbol.asyncDispose]()
      await plane[Symbol.asyncDispose]()
    },
  }
}

// Each tenant may do more than all cases together need, and what keeps a tenant from overusing has its own tests.
async function liftLimits(plane: ControlPlane): Promise<void> {
  const columns = await rowsOf<{ name: string }>(
    plane.ports.db,
    sql`select column_name as name from information_schema.columns
        where table_schema = 'app' and table_name = 'tenant_limit' and column_name ~ '^max_|_per_'`,
  )
  const all = columns.map(({ name }) => `"${name}" = 1000000`).join(', ')
  await tamper(plane.ports.db, sql.raw(`update app.tenant_limit set ${all}`))
}

/** What a house owns is made as its administrator makes it, through the API, and by a worker that fails one run. */
async function furnish(plane: ControlPlane, app: App, house: House): Promise<void> {
  const { mark } = house
  const asked = new Set<string>()
  const ask = async (name: string, type: string, input: object, select = ''): Promise<Loose> => {
    // The answer to the first of each is kept, for whoever has its key.
    const isFirst = !asked.has(name) && !('idempotencyKey' in input)
    asked.add(name)
    const { data, text } = await askGraphql(app, house.admin, {
      headers: isFirst ? { 'idempotency-key': onceKey(house, name) } : {},
      document: `mutation ($input: ${type}!) { ${name}(input: $input) { errors { code message } ${select} } }`,
      variables: { input },
    })
    if (data?.[name]?.errors.length !== 0) throw new Error(`${name} of ${house.id}: ${text}`)
    return data[name]
  }
  const secret = (name: string): string => {
    const made = `${mark}_secret_${name}`
    house.secrets.push(made)
    return made
  }
  for (const n of [1, 2, 3]) {
    await ask('createUser', 'CreateUserInput', {
      email: `${mark}_${n}@people.example`,
      username: `${mark}_user_${n}`,
      firstName: `${mark}_first`,
      lastName: `${mark}_last`,
      role: 'TENANT_ADMIN',
    })
    await ask('createCredential', 'CreateCredentialInput', {
      name: `${mark}_credential_${n}`,
      provider: 'sftp',
      secret: { host: 'sftp.example', username: secret(`u${n}`), password: secret(`p${n}`), hostKey: hostKey(n) },
    })
    await ask('saveEnvironment', 'SaveEnvironmentInput', {
      name: `${mark}_env${n}`,
      variables: { word: `${mark}_value` },
      credentials: { other: `${mark}_credential_1` },
    })
    const yaml = n === 3 ? file(mark) + triggers(mark) : file(mark)
    await ask('savePipeline', 'SavePipelineInput', { path: `${mark}/orders/p${n}`, yaml })
    const { token } = await ask('createApiKey', 'CreateApiKeyInput', { name: `${mark}_key_${n}` }, 'token')
    house.secrets.push(token)
    await ask('runPipeline', 'RunPipelineInput', {
      pipeline: `${mark}/orders/p${n}`,
      environment: `${mark}_env${n}`,
      idempotencyKey: `${mark}_once_${n}`,
    })
    const trigger = { pipeline: `${mark}/orders/p${n}`, parameters: { word: `${mark}_given` } }
    const { schedule } = await ask(
      'upsertSchedule',
      'UpsertScheduleInput',
      { ...trigger, name: `${mark}_schedule${n}`, cron: '0 2 * * *' },
      'schedule { id }',
    )
    await ask('triggerSchedule', 'TriggerScheduleInput', { id: schedule.id })
    await ask('startBackfill', 'StartBackfillInput', { ...trigger, from: '2026-01-01', to: '2026-01-02' })
    const hook = { ...trigger, name: `${mark}_hook${n}`, mapping: { word: `${mark}_place` } }
    const { secret: signing } = await ask('createWebhook', 'CreateWebhookInput', hook, 'secret')
    house.secrets.push(signing)
  }
  const worker = { id: `wrk_${mark}`, host: `${mark}.host.example`, pid: 1, queues: ['ingest'], tenants: [house.id] }
  const seen = JSON.stringify({ ...worker, capacity: 1, running: 0, draining: false, version: 'any' })
  await withLedger(plane.ports.db, 'worker', (tx) => tx.execute(sql`select app.see_worker(${seen}::jsonb)`))
  await ask('configureIdentityProvider', 'ConfigureIdentityProviderInput', {
    issuer: `https://${mark}.id.example`,
    audience: `${mark}_audience`,
    roleClaim: `${mark}_claim`,
    roles: [{ value: `${mark}_group`, role: 'DATA_ANALYST' }],
  })
  const problem = JSON.stringify(errorData(new AppError('CREDENTIAL_REJECTED', `${mark}_rejected`)))
  await tamper(
    plane.ports.db,
    sql`update app.credential set status = 'failed', problem = ${problem}::jsonb where tenant_id = ${house.id}`,
  )
  await troubleTriggers(plane, house)
  // Everything so far has failed, then one runs and one waits.
  while (await work(plane, house));
  const again = { pipeline: `${mark}/orders/p1` }
  await ask('runPipeline', 'RunPipelineInput', again)
  await work(plane, house, 'goes on')
  await ask('runPipeline', 'RunPipelineInput', again)
}

// What schedules, backfills and triggers leave when their runs are refused, beside those that start.
async function troubleTriggers(plane: ControlPlane, { id, mark }: House): Promise<void> {
  const problem = sql`${JSON.stringify({ code: 'CONFIG_INVALID', message: `${mark}_refused` })}::jsonb`
  const run = sql`(select min(run_id) from app.pipeline_run where tenant_id = ${id})`
  await tamper(
    plane.ports.db,
    ...['schedule', 'backfill', 'pipeline_trigger'].map(
      (table) => sql`update ${sql.raw(`app.${table}`)} set problem = ${problem} where tenant_id = ${id}`,
    ),
    sql`update app.schedule_fire set problem = ${problem} where tenant_id = ${id}`,
    sql`update app.backfill_slot set problem = ${problem}, run_id = ${run}, state = 'started' where tenant_id = ${id}`,
    sql`insert into app.seen_file (tenant_id, trigger_id, name, size, modified_at, state, run_id, problem)
        select tenant_id, id, ${`${mark}_seen.csv`}, 1, now(), 'started', ${run}, ${problem} from app.pipeline_trigger
        where tenant_id = ${id} and kind = 'file'`,
    sql`insert into app.run_follow_up (tenant_id, run_id, trigger_id, state, follower_run, problem)
        select tenant_id, ${run}, id, 'started', ${run}, ${problem} from app.pipeline_trigger
        where tenant_id = ${id} and kind = 'pipeline'`,
  )
}

/** A worker takes a step, says something and fails, unless it goes on; false when there is none. */
export async function work(plane: ControlPlane, { id, mark }: House, ending?: 'goes on'): Promise<boolean> {
  const [claim] = await claimSteps(plane.ports.db, {
    worker: 'wrk_estate',
    queues: ['ingest', 'transform', 'export', 'delivery'],
    limit: 1,
    leaseMs: 600_000,
    tenants: [id],
  })
  if (!claim) return false
  const logs = [1, 2, 3].map((n) => ({ level: 'info', message: `${mark}_line_${n}` }))
  await reportStep(plane.ports.db, claim, { progress: { done: 1, unit: 'rows', note: `${mark}_note` }, logs })
  const failure = new AppError('CONNECTION_FAILED', `${mark}_failure`, { retry: 'never' })
  if (!ending) await failStep(plane.ports.db, claim, errorData(failure))
  return true
}

/** The key under which a house has asked for a mutation once. */
export const onceKey = ({ mark }: House, mutation: string): string => `${mark}_once_${mutation}`

const hostKey = (n: number): string => `SHA256:${String(n).repeat(43)}`
