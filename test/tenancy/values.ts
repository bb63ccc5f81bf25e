import {
  type GraphQLInputType,
  type GraphQLSchema,
  getNamedType,
  isEnumType,
  isInputObjectType,
  isLeafType,
  isListType,
  isNonNullType,
  isObjectType,
  isRequiredArgument,
  isRequiredInputField,
} from 'graphql'
import { sql } from 'drizzle-orm'
import { rowsOf } from '../../shared/db/db.ts'
import { tamper } from '../support/database.ts'
import type { Loose } from '../support/control-plane.ts'
import { askGraphql, type Caller } from './ask.ts'
import { type Estate, type House, onceKey, work } from './estate.ts'
import { documentOf, type Place, reachedBy, type Target, targetsOf, type Values } from './targets.ts'

/**
 * What a value at a place finds: a tenant, a place in this very list, or what a field of the API answers, as `User.id`.
 * Nothing is found by free text, which must do as little as any other word. `wrap` puts the value into its form.
 */
export type Kind = {
  finds: 'tenant' | 'cursor' | 'text' | { field: string }
  wrap?: (value: string) => unknown
  /** What B has at this place of a field, where that is no word of its own. */
  foreign?: (b: House, field: string) => string
}

const credentialIn = { finds: { field: 'Credential.name' } }
const table = { finds: { field: 'Table.name' } }
const yamlWith = (name: string): string =>
  `pipeline_id: p\nsteps:\n  - step_id: only\n    ps_type: transfer.sftp_upload\n    credential: ${JSON.stringify(name)}\n    source: { paths: [a] }\n    destination: { directory: . }\n`

// What a name means where neither its description nor a prefix says so.
const named: Record<string, Kind> = {
  'Query.tenant.id': { finds: 'tenant' },
  'Subscription.tenantEvents.after': { finds: { field: 'TenantEvent.cursor' } },
  'Query.credential.name': credentialIn,
  'CreateCredentialInput.name': credentialIn,
  'UpdateCredentialInput.name': credentialIn,
  'DeleteCredentialInput.name': credentialIn,
  'TestCredentialInput.name': credentialIn,
  'SaveEnvironmentInput.name': { finds: { field: 'Environment.name' } },
  'SaveEnvironmentInput.credentials': { ...credentialIn, wrap: (name) => ({ sftp: name }) },
  'DeleteEnvironmentInput.name': { finds: { field: 'Environment.name' } },
  'Query.pipeline.path': { finds: { field: 'Pipeline.path' } },
  'SavePipelineInput.path': { finds: { field: 'Pipeline.path' } },
  'SavePipelineInput.yaml': { finds: 'text', wrap: yamlWith },
  'ValidatePipelineInput.yaml': { finds: 'text', wrap: yamlWith },
  'RunPipelineInput.pipeline': { finds: { field: 'Pipeline.path' } },
  'RunPipelineInput.environment': { finds: { field: 'Environment.name' } },
  'RunPipelineInput.idempotencyKey': { finds: { field: 'PipelineRun.idempotencyKey' } },
  'RunFilter.pipeline': { finds: { field: 'Pipeline.path' } },
  'Query.schedules.pipeline': { finds: { field: 'Pipeline.path' } },
  'UpsertScheduleInput.pipeline': { finds: { field: 'Pipeline.path' } },
  'UpsertScheduleInput.name': { finds: { field: 'Schedule.name' } },
  'UpsertScheduleInput.environment': { finds: { field: 'Environment.name' } },
  'StartBackfillInput.pipeline': { finds: { field: 'Pipeline.path' } },
  'StartBackfillInput.environment': { finds: { field: 'Environment.name' } },
  'CreateWebhookInput.name': { finds: { field: 'Webhook.name' } },
  'CreateWebhookInput.pipeline': { finds: { field: 'Pipeline.path' } },
  'CreateWebhookInput.environment': { finds: { field: 'Environment.name' } },
  'AuditFilter.actor': { finds: { field: 'AuditEvent.actor' } },
  'AuditFilter.target': { finds: { field: 'AuditEvent.target' } },
  'AuditLink.hash': { finds: { field: 'AuditEvent.hash' } },
  'AuditPlace.hash': { finds: { field: 'AuditEvent.hash' } },
  // The templates are everybody's: a cursor of B is one of A, too.
  'Query.templates.after': { finds: 'text' },
  'CreateUserInput.email': { finds: { field: 'User.email' } },
  'UpdateUserInput.email': { finds: { field: 'User.email' } },
  'Query.tableRows.table': table,
  'Query.recordHistory.table': table,
  'Query.changeLog.table': table,
  'Query.userActivity.table': table,
  'Query.changeFrequency.table': table,
  'Query.qualityTrend.table': table,
  'Query.lineage.table': table,
}
// Ids say in the description of their place what they begin with.
const prefixes: Record<string, string> = {
  run_: 'PipelineRun.id',
  usr_: 'User.id',
  key_: 'ApiKey.id',
  crd_: 'Credential.id',
  ses_: 'Session.id',
  pip_: 'Pipeline.id',
  sch_: 'Schedule.id',
  bkf_: 'Backfill.id',
  whk_: 'Webhook.id',
}

/** What a value at this place finds; undefined for numbers, moments and choices. Throws for an ID that nothing explains. */
export function kindOf({ coordinate, name, type, description }: Place): Kind | undefined {
  const known = named[coordinate]
  if (known) return known
  if (type.name === 'JSON') return { finds: 'text', wrap: (value) => ({ word: value }) }
  if (type.name !== 'ID' && type.name !== 'String') return undefined
  if (name === 'tenantId') return { finds: 'tenant' }
  if (name === 'idempotencyKey') return { finds: 'text', foreign: onceKey }
  if (name === 'after' || name === 'before') return { finds: 'cursor' }
  const field = prefixes[/`([a-z]+_)…`/.exec(description)?.[1] ?? '']
  if (field !== undefined) return { finds: { field } }
  if (type.name === 'String') return { finds: 'text' }
  throw new Error(`${coordinate}: nothing says what this ID is of; name it in test/tenancy/values.ts`)
}

/** What a house reads of itself: values by the field that answered them, as `User.id`. */
export type Harvest = Map<string, string[]>

/** Everything that a house reads about itself without naming anything. */
export async function harvest(schema: GraphQLSchema, estate: Estate, house: House): Promise<Harvest> {
  const found: Harvest = new Map()
  const keep = (coordinate: string, value: unknown): void => {
    if (typeof value !== 'string') return
    found.set(coordinate, [...new Set([...(found.get(coordinate) ?? []), value])])
  }
  const walk = (type: unknown, data: Loose): void => {
    if (Array.isArray(data)) for (const item of data) walk(type, item)
    if (!isObjectType(type) || data === null || typeof data !== 'object') return
    for (const [name, field] of Object.entries(type.getFields())) {
      const below = getNamedType(field.type)
      if (!isLeafType(below)) walk(below, data[name])
      else for (const value of [data[name]].flat()) keep(`${type.name}.${name}`, value)
    }
  }
  for (const target of targetsOf(schema, () => false)) {
    if (target.operation !== 'query' || target.edges.some(({ field }) => field.args.some(isRequiredArgument))) continue
    const { data } = await askGraphql(estate.app, house.admin, documentOf(target, [], 2))
    walk(schema.getQueryType(), data)
  }
  return found
}

/** Values for the cases: those of both houses, words that nobody has, and what fields need beside the value in question. */
export type Stock = {
  ofA: Harvest
  ofB: Harvest
  /** What must not be in an answer to A: ids, hashes and names of B that A has not. */
  marksOfB: readonly string[]
  foreign(kind: Kind, target: Target): Promise<string>
  own(kind: Kind, target: Target, caller: Caller): Promise<string>
  /** Says that A has something of this name now, too: it is no longer B's alone. */
  use(value: string): void
  /**
   * Arguments for each edge of a target that are as good as they can be: what is required, and what `needed` lies in.
   * `kept` has what was made for them before.
   */
  base(target: Target, caller: Caller, kept: Map<string, string>, needed: readonly Place[]): Promise<Values[]>
}

/** Fills the stock. */
export async function openStock(schema: GraphQLSchema, estate: Estate): Promise<Stock> {
  const { a, b, c } = estate
  const ofA = await harvest(schema, estate, a)
  const ofB = await harvest(schema, estate, b)
  const known = new Set([...ofA.values()].flat())
  const ids = [...ofB.values()].flat().filter((value) => value.length >= 20 && !known.has(value))
  const isMoment = (value: string): boolean => /^\d{4}-\d\d-\d\dT/.test(value)
  const marksOfB = [b.mark, ...ids.filter((value) => !isMoment(value) && !value.includes(b.mark))]

  // What only the platform may list, it lists for a tenant to try.
  const endCursor = async (target: Target, house: House): Promise<string> => {
    for (const caller of [house.admin, estate.platform]) {
      const values = await base(target, house.admin, new Map(), [], house)
      const last = target.edges.length - 1
      values[last] = { ...values[last], first: 1 }
      const { document, variables } = documentOf(target, values, 2)
      const { data } = await askGraphql(estate.app, caller, { document, variables })
      const cursor: unknown = reachedBy(target, data)[0]?.pageInfo?.endCursor
      if (typeof cursor === 'string') return cursor
    }
    throw new Error(`${target.name} gave no cursor: ${house.id} has nothing there`)
  }
  const lastOf = async (stream: string, house: House): Promise<string> => {
    const { text } = await askGraphql(estate.app, house.admin, { document: stream })
    const cursor = [...text.matchAll(/"cursor":"([^"]+)"/g)].at(-1)?.[1]
    if (cursor === undefined) throw new Error(`${house.id} has nothing at ${stream}`)
    return cursor
  }
  const used = new Set<string>()
  const foreign: Stock['foreign'] = async ({ finds, foreign: given }, target) => {
    if (given) return given(b, target.edges.at(-1)?.field.name ?? '')
    if (finds === 'tenant') return b.id
    if (finds === 'cursor') return endCursor(target, b)
    if (finds === 'text') return `${b.mark}_credential_1`
    const stream = streams[finds.field]
    if (stream !== undefined) return lastOf(stream, b)
    const isOfB = (one: string): boolean => !ofA.get(finds.field)?.includes(one) && !used.has(one)
    const value = ofB.get(finds.field)?.findLast(isOfB)
    if (value === undefined) throw new Error(`${target.name}: B has no ${finds.field} of its own; give it one`)
    return value
  }
  const own: Stock['own'] = async ({ finds }, target, caller) => {
    if (finds === 'tenant') return caller.role === 'TENANT_ADMIN' ? a.id : c.id
    if (finds === 'cursor') return endCursor(target, a)
    if (finds === 'text') return estate.fresh()
    const stream = streams[finds.field]
    if (stream !== undefined) return lastOf(stream, a)
    // What is only read is not used up.
    const make = target.operation === 'query' && finds.field !== 'AuditEvent.hash' ? undefined : spares[finds.field]
    if (make) return make(estate, caller)
    const value = ofA.get(finds.field)?.at(-1)
    if (value === undefined) throw new Error(`${target.name}: A has no ${finds.field}`)
    return value
  }
  const base = async (
    target: Target,
    caller: Caller,
    kept: Map<string, string>,
    needed: readonly Place[],
    house = a,
  ): Promise<Values[]> => {
    const isNeeded = (at: readonly string[]): boolean =>
      needed.some((place) => at.every((name, depth) => place.at[depth] === name))
    const fill = async (type: GraphQLInputType, place: Omit<Place, 'type'>): Promise<unknown> => {
      if (isNonNullType(type)) return fill(type.ofType, place)
      if (isListType(type)) return [await fill(type.ofType, place)]
      if (isInputObjectType(type)) {
        const values: Values = {}
        for (const field of Object.values(type.getFields())) {
          const at = [...place.at, field.name]
          const { name, description } = field
          const coordinate = `${type.name}.${name}`
          if (!isRequiredInputField(field) && !isNeeded(at) && !companions.includes(coordinate)) continue
          values[name] = await fill(field.type, { at, coordinate, name, description: description ?? '' })
        }
        return values
      }
      const word = words[place.coordinate] ?? words[place.name] ?? words[type.name]
      const kind = kindOf({ ...place, type })
      if (kind && kind.finds !== 'text' && !newNames.includes(place.coordinate)) {
        const given = house === a ? own(kind, target, caller) : foreign(kind, target)
        const value = kept.get(place.coordinate) ?? (await given)
        kept.set(place.coordinate, value)
        return kind.wrap ? kind.wrap(value) : value
      }
      if (word !== undefined) return word(estate)
      if (isEnumType(type)) return type.getValues()[0]?.name
      if (type.name === 'String') return estate.fresh()
      throw new Error(`${place.coordinate}: say in test/tenancy/values.ts what a ${type.name} may hold`)
    }
    const values: Values[] = []
    for (const [index, { owner, field }] of target.edges.entries()) {
      const given: Values = {}
      for (const arg of field.args) {
        const { name } = arg
        if (!isRequiredArgument(arg) && !(index === target.edges.length - 1 && isNeeded([name]))) continue
        const coordinate = `${owner}.${field.name}.${name}`
        given[name] = await fill(arg.type, { at: [name], coordinate, name, description: arg.description ?? '' })
      }
      values.push(given)
    }
    return values
  }
  return { ofA, ofB, marksOfB, foreign, own, use: (value) => used.add(value), base }
}

// What only a stream answers.
const streams: Record<string, string> = {
  'TenantEvent.cursor': 'subscription { tenantEvents(after: "0") { cursor } }',
}

/** A value of the same form that nobody has: letters for letters, digits for digits, the prefixes of ids kept. */
export function likeness(value: string): string {
  // The numbers around a run are a time and a count, which are nobody's own.
  const place = /^(\d+\.)(run_[0-9a-f]+)(\.\d+)$/.exec(value)
  if (place) return `${place[1]}${likeness(place[2] ?? '')}${place[3]}`
  const kept = /^(?:[a-z]{3,4}[:_])*/.exec(value)?.[0] ?? ''
  const any = (of: string): string => of[Math.floor(Math.random() * of.length)] ?? ''
  const rest = value
    .slice(kept.length)
    .replaceAll(/[a-z]|[A-Z]|\d/g, (one) => any(/\d/.test(one) ? '123456789' : /[a-z]/.test(one) ? 'abcdef' : 'ABCDEF'))
  // A short one may come out as it went in.
  return rest === value.slice(kept.length) && /[a-zA-Z0-9]/.test(rest) ? likeness(value) : kept + rest
}

// Places where a new name is what the field needs.
const newNames = [
  'SavePipelineInput.path',
  'CreateCredentialInput.name',
  'CreateUserInput.email',
  'SaveEnvironmentInput.name',
  'OnboardTenantInput.tenantId',
  'UpsertScheduleInput.name',
  'CreateWebhookInput.name',
]

// Optional by type, and yet one of them is needed.
const companions = ['QueueLimitsInput.maxRunning', 'UpsertScheduleInput.name', 'StartBackfillInput.pipeline']

// Good values by coordinate, name or type, for what is needed beside the value in question.
const words: Record<string, (estate: Estate) => unknown> = {
  'Query.recordHistory.key': () => ({ id: 1 }),
  'CreateUserInput.email': ({ fresh }) => `${fresh()}@people.example`,
  'CreateCredentialInput.name': ({ fresh }) => fresh(),
  'SavePipelineInput.path': ({ fresh }) => `x/y/${fresh()}`,
  'OnboardTenantInput.tenantId': ({ fresh }) => fresh(),
  'CreateCredentialInput.provider': () => 'sftp',
  'SaveEnvironmentInput.name': async (estate) => {
    await clearEnvironments(estate)
    return estate.fresh()
  },
  'UpsertScheduleInput.cron': () => '0 2 * * *',
  'UpsertScheduleInput.name': async (estate) => {
    await clearTriggers(estate)
    return estate.fresh()
  },
  'UpsertScheduleInput.expectedVersion': () => 0,
  'StartBackfillInput.from': async (estate) => {
    await clearTriggers(estate)
    return '2026-01-01'
  },
  'CreateWebhookInput.name': async (estate) => {
    await clearTriggers(estate)
    return estate.fresh()
  },
  'UpdateTenantSettingsInput.expectedVersion': ({ a, app }) => versionOf(app, a.admin),
  adminEmail: ({ fresh }) => `${fresh()}@people.example`,
  secret: ({ fresh }) => ({
    host: 'sftp.example',
    username: fresh(),
    password: fresh(),
    hostKey: `SHA256:${'A'.repeat(43)}`,
  }),
  stepKey: () => 'only',
  step: () => 'only',
  yaml: () => 'pipeline_id: p\nsteps:\n  - step_id: only\n    ps_type: file.delete\n    paths: ["a"]\n',
  limits: () => ({ maxMembers: 50 }),
  Int: () => 1,
  BigInt: () => 1,
  Boolean: () => true,
  JSON: () => ({}),
  Date: () => '2026-01-01',
  DateTime: () => '2036-01-01T00:00:00Z',
  Role: () => 'DATA_ANALYST',
}

async function versionOf(app: Estate['app'], caller: Caller): Promise<number> {
  const { data } = await askGraphql(app, caller, { document: '{ tenant { version } }' })
  return data.tenant.version
}

// Things of A that a case may use up.
const spares: Record<string, (estate: Estate, caller: Caller) => Promise<string>> = {
  // The entry whose number every case gives.
  'AuditEvent.hash': async ({ plane, a, c }, caller) => {
    const id = caller.role === 'TENANT_ADMIN' ? a.id : c.id
    const rows = await rowsOf<{ hash: string }>(
      plane.ports.db,
      sql`select hash from app.audit_event where tenant_id = ${id} and seq = 1`,
    )
    return rows[0]?.hash ?? ''
  },
  'User.id': async (estate) => {
    const input = `email: "${estate.fresh()}@people.example", role: DATA_ANALYST`
    return (await made(estate, `createUser(input: { ${input} }) { user { id } }`)).user.id
  },
  // One that has failed: it can be cancelled, retried and discarded.
  'PipelineRun.id': async (estate) => {
    const { run } = await made(estate, `runPipeline(input: { pipeline: "${estate.a.mark}/orders/p1" }) { run { id } }`)
    while (await work(estate.plane, estate.a));
    return run.id
  },
  'ApiKey.id': async (estate) =>
    (await made(estate, `createApiKey(input: { name: "${estate.fresh()}", scopes: [RUNS_READ] }) { apiKey { id } }`))
      .apiKey.id,
  'Credential.name': async (estate) => {
    const secret = `{ host: "sftp.example", username: "u", password: "${estate.fresh()}", hostKey: "SHA256:${'A'.repeat(43)}" }`
    const input = `name: "${estate.fresh()}", provider: "sftp", secret: ${secret}`
    return (await made(estate, `createCredential(input: { ${input} }) { credential { name } }`)).credential.name
  },
  'Schedule.id': async (estate) => {
    await clearTriggers(estate)
    const input = `pipeline: "${estate.a.mark}/orders/p1", name: "${estate.fresh()}", cron: "0 2 * * *"`
    return (await made(estate, `upsertSchedule(input: { ${input} }) { schedule { id } }`)).schedule.id
  },
  'Backfill.id': async (estate) => {
    await clearTriggers(estate)
    const input = `pipeline: "${estate.a.mark}/orders/p1", from: "2026-01-01", to: "2026-01-02"`
    return (await made(estate, `startBackfill(input: { ${input} }) { backfill { id } }`)).backfill.id
  },
  'Webhook.id': async (estate) => {
    await clearTriggers(estate)
    const input = `pipeline: "${estate.a.mark}/orders/p1", name: "${estate.fresh()}"`
    return (await made(estate, `createWebhook(input: { ${input} }) { webhook { id } }`)).webhook.id
  },
  'Environment.name': async (estate) => {
    await clearEnvironments(estate)
    return (await made(estate, `saveEnvironment(input: { name: "${estate.fresh()}" }) { environment { name } }`))
      .environment.name
  },
}

// A tenant has at most 20 of them, and cases make more.
const clearEnvironments = ({ plane, a }: Estate): Promise<void> =>
  tamper(
    plane.ports.db,
    sql`delete from app.tenant_environment e where tenant_id = ${a.id} and name not like ${`${a.mark}%`}
        and name not in (select name from app.tenant_environment where tenant_id = ${a.id} order by created_at desc limit 5)`,
  )

// Neither has it any number of these.
const clearTriggers = ({ plane, a }: Estate): Promise<void> =>
  tamper(
    plane.ports.db,
    sql`update app.backfill set state = 'cancelled' where tenant_id = ${a.id} and parameters = '{}'
        and id not in (select id from app.backfill where tenant_id = ${a.id} order by created_at desc limit 5)`,
    sql`delete from app.webhook where tenant_id = ${a.id} and name not like ${`${a.mark}%`}
        and id not in (select id from app.webhook where tenant_id = ${a.id} order by created_at desc limit 5)`,
    sql`delete from app.schedule where tenant_id = ${a.id} and name not like ${`${a.mark}%`}
        and id not in (select id from app.schedule where tenant_id = ${a.id} order by created_at desc limit 5)`,
  )

async function made(estate: Estate, field: string): Promise<Loose> {
  const { data, text } = await askGraphql(estate.app, estate.a.admin, { document: `mutation { result: ${field} }` })
  if (!Object.values(data?.result ?? {})[0]) throw new Error(`${field}: ${text}`)
  return data.result
}
