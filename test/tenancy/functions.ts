import { sql } from 'drizzle-orm'
import { rowsOf, type Db, type Side, withTenant } from '../../shared/db/db.ts'
import { type Outcome, refusalOf } from './attempt.ts'
import type { Backend } from './backends.ts'
import { changedIn, stateOf } from './changes.ts'
import type { Estate } from './estate.ts'
import { tally, type Tally } from './tally.ts'
import { likeness } from './values.ts'

/**
 * Functions that look across tenants, and why that is no leak. Their callers are programs of the house, and no field of
 * the API hands through what a caller says. A function that is not here may do nothing with what is another tenant's.
 */
const across: Record<string, string> = {
  'api find_api_key': 'finds a tenant by the id of a key, before there is a tenant',
  'api find_webhook': 'finds a tenant by the id of a webhook, before there is a tenant',
  'api tick': 'housekeeping; answers which queues to wake',
  'api due_triggers': 'housekeeping; answers which triggers are due',
  'api sweep_triggers': 'housekeeping; answers a number',
  'api fleet_gauges': 'figures of the whole fleet by queue type, no tenant among them',
  'worker fleet_gauges': 'figures of the whole fleet by queue type, no tenant among them',
  'worker adopt': 'one process that owns every lease takes them back',
  'worker audit_due': 'which logs are due to be cut',
  'worker audit_tenants': 'which logs there are, for the witnesses of all',
  'worker claim_outbox': 'messages to send, whoever wrote them',
  'worker claim_steps': 'steps in fair turns over all tenants',
  'worker claim_watches': 'folders to look into, whoever watches them',
  'worker due_triggers': 'housekeeping; answers which triggers are due',
  'worker finish_outbox': 'ends what claim_outbox gave',
  'worker flush_denials': 'writes what was counted to the log of each tenant',
  'worker keep_homes': 'the worker says which tenants it has at home',
  'worker take_home': 'the worker takes a tenant home, to read for it',
  'worker take_homes': 'the worker takes tenants home',
  'worker note_storage': 'the worker measured the folder of that tenant',
  'worker reap': 'gives back leases that ran out',
  'worker sweep_triggers': 'housekeeping; answers a number',
  'worker tick': 'housekeeping; answers which queues to wake',
}

type Fn = { side: Side; name: string; arguments: { name: string; type: string }[] }

/**
 * Calls every function of the schema that a side may call, bound to A, with what is B's: it does and says the same as
 * with what nobody has, and changes nothing of B. Functions of steps are called without the fence, which only the holder of
 * the claim knows.
 */
export async function proveFunctions(backend: Backend, { a, b }: Estate): Promise<Tally> {
  const found = tally()
  const { superuser, db } = backend
  const [step] = await rowsOf<{ run_id: string; step_key: string }>(
    superuser,
    sql`select run_id, step_key from app.run_step where tenant_id = ${b.id} and state = 'running'`,
  )
  const [key] = await rowsOf<{ id: string }>(
    superuser,
    sql`select id from app.api_key where tenant_id = ${b.id} limit 1`,
  )
  const [pipe] = await rowsOf<{ id: string }>(
    superuser,
    sql`select id from app.pipeline where tenant_id = ${b.id} and origin = 'tenant' limit 1`,
  )
  if (!step || !key || !pipe) throw new Error('B has no running step, key or pipeline')
  const ofB: Owned = { tenant: b.id, run: step.run_id, step: step.step_key, key: key.id, pipeline: pipe.id }
  const nobodys: Owned = {
    tenant: likeness(ofB.tenant),
    run: likeness(ofB.run),
    step: ofB.step,
    key: likeness(ofB.key),
    pipeline: likeness(ofB.pipeline),
  }
  for (const fn of await functionsOf(superuser)) {
    const where = `${backend.name} ${fn.side} app.${fn.name}`
    if (across[`${fn.side} ${fn.name}`]) continue
    const before = await stateOf(superuser, b.id)
    const one = await call(db, a.id, fn, ofB)
    const other = await call(db, a.id, fn, nobodys)
    const changed = changedIn(before, await stateOf(superuser, b.id))
    found.check(changed.length === 0, `${where} changes B's ${changed.join(', ')}`)
    const [said, alike] = [bare(one, ofB), bare(other, nobodys)]
    found.check(said === alike, `${where} tells B's from nobody's`, () => `${said} | ${alike}`)
    found.check(!said.includes(b.mark), `${where} shows what is B's`, () => said)
  }
  return found
}

type Owned = { tenant: string; run: string; step: string; key: string; pipeline: string }

// What each argument is given, by its name; those of a function by both names where one name means two things.
const given: Record<string, (owned: Owned) => unknown> = {
  p_tenant: ({ tenant }) => tenant,
  p_tenants: ({ tenant }) => [tenant],
  p_note: ({ tenant }) => [tenant],
  p_after: () => '',
  p_after_tenant: () => '',
  p_after_queue: () => '',
  p_run: ({ run }) => run,
  p_step: ({ step }) => step,
  p_from: ({ step }) => step,
  p_fence: () => -1,
  p_id: ({ key }) => key,
  p_worker: ({ tenant }) => `wrk_${tenant}`,
  p_target: ({ run }) => run,
  p_queues: () => ['ingest'],
  p_queue: () => 'ingest',
  p_part: ({ step }) => step,
  p_kind: () => 'schedule',
  p_subject: ({ tenant }) => tenant,
  'start_run.p': (owned) => newRun(owned),
  'start_child.p': (owned) => newRun(owned),
  'see_worker.p': ({ tenant }) => ({
    id: `wrk_${tenant}`,
    host: 'h',
    pid: 1,
    queues: ['ingest'],
    capacity: 1,
    running: 0,
    draining: false,
  }),
}
const byType: Record<string, () => unknown> = {
  text: () => 'any',
  integer: () => 1,
  bigint: () => 1,
  boolean: () => false,
  jsonb: () => ({}),
  'text[]': () => [],
  'timestamp with time zone': () => '2026-01-01T00:00:00Z',
}

const newRun = ({ tenant, pipeline }: Owned): object => ({
  tenantId: tenant,
  runId: `run_${crypto.randomUUID()}`,
  pipelineId: pipeline,
  pipelineVersion: 1,
  trigger: 'manual',
  parameters: {},
  requestedBy: 'test',
  steps: [],
})

async function functionsOf(db: Db): Promise<Fn[]> {
  return rowsOf<Fn>(
    db,
    sql`select s.side, p.proname as name, coalesce((
          select jsonb_agg(jsonb_build_object('name', a.name, 'type', format_type(a.type, null)) order by a.n)
          from unnest(p.proargtypes::oid[], p.proargnames[1:p.pronargs]) with ordinality a (type, name, n)), '[]') as arguments
        from pg_proc p cross join (values ('api'), ('worker')) s (side)
        where p.pronamespace = 'app'::regnamespace and p.prorettype <> 'trigger'::regtype
          and has_function_privilege('tributary_' || s.side, p.oid, 'execute') order by 1, 2`,
  )
}

async function call(db: Db, tenantId: string, fn: Fn, owned: Owned): Promise<Outcome> {
  const values = fn.arguments.map(({ name, type }) => {
    const make = given[`${fn.name}.${name}`] ?? given[name] ?? byType[type]
    if (!make) throw new Error(`app.${fn.name}: say in test/tenancy/functions.ts what ${name} of type ${type} may be`)
    const value = make(owned)
    if (type === 'text[]') return sql`array(select jsonb_array_elements_text(${JSON.stringify(value)}::jsonb))`
    return sql`${type === 'jsonb' ? JSON.stringify(value) : value}::${sql.raw(type)}`
  })
  try {
    return await withTenant(db, { tenantId, side: fn.side }, async (tx) => {
      const rows = await rowsOf(tx, sql`select * from ${sql.raw(`app.${fn.name}`)}(${sql.join(values, sql`, `)})`)
      return { rows, count: rows.length }
    })
  } catch (error) {
    return refusalOf(error)
  }
}

const bare = (outcome: Outcome, owned: Owned): string =>
  Object.values(owned)
    .reduce((text, value) => text.replaceAll(value, '<asked>'), JSON.stringify(outcome))
    .replaceAll(/run_[0-9a-f-]{36}/g, '<run>')
