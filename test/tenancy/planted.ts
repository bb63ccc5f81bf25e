import { and, eq, getTableColumns, sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import type { GraphQLField, GraphQLFieldResolver, GraphQLSchema } from 'graphql'
import pg from 'pg'
import type { Context } from '../../control-plane/context.ts'
import * as tableDefinitions from '../../schema/tables/index.ts'
import { pipeline, pipelineRun } from '../../schema/tables/index.ts'
import { rowsOf } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { type Hub, inProcessHub } from '../../shared/waking/hub.ts'
import { tamper } from '../support/database.ts'
import type { Backend } from './backends.ts'
import { proveConnections } from './connections.ts'
import type { Estate } from './estate.ts'
import { proveFunctions } from './functions.ts'
import { proveHints } from './hints.ts'
import { type Alone, answersAlone, proveInterleaved } from './interleaved.ts'
import { proveNesting } from './nesting.ts'
import { proveRequests } from './requests.ts'
import { proveTables } from './tables.ts'
import type { Tally } from './tally.ts'
import type { Stock } from './values.ts'

/** A leak: `plant` puts it in and answers how it is taken out; `part` is the part of the proof that is to find it. */
type Leak = { name: string; plant(): Promise<() => Promise<void>>; part(): Promise<Tally> }

/**
 * Puts leaks into the databases of the proof and around the resolvers and ports, one at a time, never into the product's
 * sources, and runs the part of the proof that is to find each, with the leak and after it: it must find something, and
 * then nothing. Answers how many were found, and what was not.
 */
export async function provePlanted(
  schema: GraphQLSchema,
  estate: Estate,
  stock: Stock,
  backends: readonly Backend[],
): Promise<{ found: number; missed: string[] }> {
  const leaks = [
    ...leaksOfResolvers(schema, estate, stock),
    ...leaksOfHubs(estate, stock),
    ...backends.filter(({ name }) => name !== 'pgbouncer').flatMap((backend) => leaksOfTables(backend, estate)),
    ...leaksOfSessions(estate, backends),
  ]
  const missed: string[] = []
  for (const { name, plant, part } of leaks) {
    const remove = await plant()
    await forgetAnswers(estate)
    const { failures } = await part().finally(remove)
    await forgetAnswers(estate)
    const { failures: rest } = await part()
    if (failures.length === 0) missed.push(name)
    else if (rest.length > 0) missed.push(`${name}: found without it, too: ${rest[0]}`)
    else console.log(`found: ${name}: ${failures[0]?.replaceAll(/\s+/g, ' ').slice(0, 160)}`)
  }
  return { found: leaks.length - missed.length, missed }
}

// A walk uses B's keys of requests up for A, and the next would find them so.
const forgetAnswers = ({ plane, a }: Estate): Promise<unknown> =>
  tamper(plane.ports.db, sql`delete from app.idempotent_request where tenant_id = ${a.id}`)

type Field = GraphQLField<unknown, Context>
type Resolver = GraphQLFieldResolver<unknown, Context>

function leaksOfResolvers(schema: GraphQLSchema, estate: Estate, stock: Stock): Leak[] {
  const everybodys = estate.plane.ports.db
  const { a, b } = estate
  const fieldOf = (type: string, name: string): Field => {
    const found = schema.getType(type)
    const field = found && 'getFields' in found ? found.getFields()[name] : undefined
    if (!field || !('args' in field)) throw new Error(`there is no ${type}.${name} to plant a leak in`)
    return field
  }
  const leak = (
    name: string,
    [type, field]: [string, string],
    wrap: (resolve: Resolver, field: Field) => Resolver,
    part: () => Promise<Tally>,
  ): Leak => ({
    name,
    part,
    async plant() {
      const at = fieldOf(type, field)
      const { resolve } = at
      if (!resolve) throw new Error(`${type}.${field} has no resolver`)
      at.resolve = wrap(resolve, at)
      return async () => {
        at.resolve = resolve
      }
    },
  })
  const requests =
    (...only: string[]) =>
    () =>
      proveRequests(schema, estate, stock, only)
  const nesting =
    (...only: string[]) =>
    () =>
      proveNesting(schema, estate, stock, only)
  // What is answered alone is asked before the leak is there, and after all that earlier ones changed.
  let alone: Alone = new Map()
  const together = () =>
    proveInterleaved(schema, estate, { name: 'planted', app: estate.app, db: everybodys, alone }, 60)
  const amid = (leak: Leak): Leak => ({
    ...leak,
    async plant() {
      alone = await answersAlone(schema, estate, estate.app)
      return leak.plant()
    },
  })
  const runById = async (id: string): Promise<typeof pipelineRun.$inferSelect | undefined> => {
    const [row] = await everybodys
      .select({ ...getTableColumns(pipelineRun), pipelinePath: pipeline.path })
      .from(pipelineRun)
      .innerJoin(pipeline, and(eq(pipeline.tenantId, pipelineRun.tenantId), eq(pipeline.id, pipelineRun.pipelineId)))
      .where(eq(pipelineRun.runId, id))
    return row
  }
  const lent: { loaders?: Context['loaders'] } = {}
  const isOfB = async (table: string, id: unknown): Promise<boolean> =>
    (await rowsOf(everybodys, sql`select 1 from ${sql.raw(`app.${table}`)} where tenant_id = ${b.id} and id = ${id}`))
      .length > 0

  return [
    leak(
      'a field that lost its scope',
      ['Query', 'auditLog'],
      (_resolve, { extensions }) => optionsOf(extensions).resolve,
      requests('Query.auditLog'),
    ),
    leak(
      'a nested field that lost its scope',
      ['Tenant', 'apiKeys'],
      (_resolve, { extensions }) => optionsOf(extensions).resolve,
      nesting('Tenant.apiKeys'),
    ),
    leak(
      'a lookup by id without the tenant',
      ['Query', 'run'],
      (resolve) => async (root, args, context, info) =>
        (await runById(args['id'])) ?? resolve(root, args, context, info),
      requests('Query.run'),
    ),
    leak(
      'another message for what is foreign',
      ['Query', 'user'],
      (resolve) => async (root, args, context, info) => {
        if (await isOfB('tenant_user', args['id'])) throw new AppError('NOT_FOUND', 'This person is not yours.')
        return resolve(root, args, context, info)
      },
      requests('Query.user'),
    ),
    leak(
      'another code for what is foreign',
      ['Mutation', 'revokeApiKey'],
      (resolve) => async (root, args, context, info) => {
        if (await isOfB('api_key', args['input'].id)) throw new AppError('CONFLICT', 'There is no such key.')
        return resolve(root, args, context, info)
      },
      requests('Mutation.revokeApiKey'),
    ),
    leak(
      'a change by id without the tenant',
      ['Mutation', 'deactivateUser'],
      (resolve) => async (root, args, context, info) => {
        await everybodys.execute(
          sql`update app.tenant_user set first_name = first_name || '.' where id = ${args['input'].id}`,
        )
        return resolve(root, args, context, info)
      },
      requests('Mutation.deactivateUser'),
    ),
    leak(
      'a cursor that is bound to no list',
      ['Query', 'runs'],
      (resolve) => async (root, args, context, info) => {
        try {
          return await resolve(root, args, context, info)
        } catch (error) {
          const isOurs =
            typeof args['after'] === 'string' && atob(args['after'].replaceAll(/[-_]/g, '')).includes('run_')
          if (!isOurs) throw error
          return resolve(root, { ...args, after: undefined }, context, info)
        }
      },
      requests('Query.runs'),
    ),
    amid(
      leak(
        'loaders that requests share',
        ['Query', 'runs'],
        (resolve) => (root, args, context, info) => {
          lent.loaders ??= context.loaders
          context.loaders = lent.loaders
          return resolve(root, args, context, info)
        },
        together,
      ),
    ),
    amid(
      leak(
        'an answer kept from one request for the next',
        ['Query', 'tenant'],
        (resolve) => {
          let kept: unknown
          return (root, args, context, info) => (kept ??= resolve(root, args, context, info))
        },
        together,
      ),
    ),
    leak(
      'a tenant that is taken from the input',
      ['Query', 'tenant'],
      (resolve) => (root, args, context, info) => {
        const auth = context.auth && { ...context.auth, tenantId: args['id'] ?? context.auth.tenantId }
        return resolve(root, args, { ...context, auth }, info)
      },
      requests('Query.tenant'),
    ),
    leak(
      'rows of a lake for whoever names the table',
      ['Query', 'tableRows'],
      (resolve) => (root, args, context, info) => {
        const isOfB = String(args['table']).startsWith(b.mark)
        const auth = isOfB && context.auth ? { ...context.auth, tenantId: b.id } : context.auth
        return resolve(root, args, { ...context, auth }, info)
      },
      requests('Query.tableRows'),
    ),
    leak(
      'a secret in an answer',
      ['Credential', 'provider'],
      () => () => a.secrets.at(1),
      nesting('CredentialConnection.nodes'),
    ),
    {
      name: 'a stream of another tenant',
      part: requests('Subscription.runEvents'),
      async plant() {
        const at = fieldOf('Subscription', 'runEvents')
        const { subscribe } = at
        if (!subscribe) throw new Error('there is no stream')
        at.subscribe = async (root, args, context: Context, info) => {
          const run = await runById(args['runId'])
          const tenantId = run?.tenantId ?? context.auth?.tenantId ?? ''
          return subscribe(root, args, { ...context, auth: context.auth && { ...context.auth, tenantId } }, info)
        }
        return async () => {
          at.subscribe = subscribe
        }
      },
    },
    replacing('a clock that stands still, so that no key ends', estate.app, {
      plant: () => {
        const ports = { clock: { ...estate.plane.ports.clock, now: () => new Date('2020-01-01') } }
        return estate.plane.appWith({ waits: { provisionMs: 20, streamMs: 60 } }, ports)
      },
      part: (app) => proveRequests(schema, { ...estate, app }, stock, ['Query.run']),
    }),
  ]
}

// A leak in something that the proof is given, in the place of the good one.
function replacing<T>(name: string, good: T, { plant, part }: { plant(): T; part(given: T): Promise<Tally> }): Leak {
  let given = good
  return {
    name,
    part: () => part(given),
    async plant() {
      given = plant()
      return async () => {
        given = good
      }
    },
  }
}

// What the builder was told of a field, before it put the scopes around it.
function optionsOf(extensions: Readonly<Record<string, unknown>>): { resolve: Resolver } {
  const options = extensions['pothosOptions']
  if (typeof options === 'object' && options !== null && 'resolve' in options && typeof options.resolve === 'function')
    // Its type is lost where the builder keeps it.
    return { resolve: options.resolve as Resolver }
  throw new Error('the builder was told no resolver')
}

function leaksOfHubs(estate: Estate, stock: Stock): Leak[] {
  const nameless = inProcessHub()
  const bare = ({ runId }: { runId?: string }) => ({ tenantId: '', ...(runId === undefined ? {} : { runId }) })
  const deaf: Hub = {
    notify: (topic) => nameless.notify(bare(topic)),
    wait: (topic, ms, signal) => nameless.wait(bare(topic), ms, signal),
  }
  const part = (hub: Hub): Promise<Tally> => proveHints(estate, stock, hub)
  return [replacing('topics of the hub without the tenant', inProcessHub(), { plant: () => deaf, part })]
}

function leaksOfTables(backend: Backend, estate: Estate): Leak[] {
  const { superuser, name: on } = backend
  const leak = (name: string, plant: string | string[], remove: string, part: () => Promise<Tally>): Leak => ({
    name: `${on}: ${name}`,
    part,
    async plant() {
      for (const statement of [plant].flat()) await superuser.execute(sql.raw(statement))
      return async () => void (await superuser.execute(sql.raw(remove)))
    },
  })
  const tables = () => proveTables(backend, estate)
  const functions = () => proveFunctions(backend, estate)
  const lend = [
    'alter function app.planted(text) owner to tributary_ledger',
    'grant execute on function app.planted(text) to tributary_api',
  ]
  const rule = "tenant_id = current_setting('app.tenant_id', true)"
  const policy = `create policy tenant on app.credential to tributary_api, tributary_worker using (${rule}) with check (${rule} and tenant_id <> '')`
  return [
    leak('a table without its policy', 'drop policy tenant on app.credential', policy, tables),
    leak(
      'a table whose owner passes by',
      'alter table app.credential no force row level security',
      'alter table app.credential force row level security',
      tables,
    ),
    leak(
      'a table without row-level security',
      'alter table app.tenant_user disable row level security',
      'alter table app.tenant_user enable row level security',
      tables,
    ),
    leak(
      'a second policy that lets everything through',
      'create policy planted on app.pipeline for select to tributary_api using (true)',
      'drop policy planted on app.pipeline',
      tables,
    ),
    leak(
      'a policy that checks what is read and not what is written',
      'alter policy tenant on app.credential with check (true)',
      `alter policy tenant on app.credential with check (${rule} and tenant_id <> '')`,
      tables,
    ),
    leak(
      'a policy that takes no tenant for every tenant',
      `alter policy tenant on app.credential using (${rule} or coalesce(current_setting('app.tenant_id', true), '') = '')`,
      `alter policy tenant on app.credential using (${rule})`,
      tables,
    ),
    leak(
      'a definer function that trusts its argument',
      [
        `create function app.planted(p_tenant text) returns bigint language sql security definer set search_path = pg_catalog, app
        as $$ select count(*) from app.pipeline_run where tenant_id = p_tenant $$`,
        ...lend,
      ],
      'drop function app.planted(text)',
      functions,
    ),
    leak(
      'a definer function that changes what it is told',
      [
        `create function app.planted(p_tenant text) returns void language sql security definer set search_path = pg_catalog, app
        as $$ update app.tenant_queue set running = running + 1 where tenant_id = p_tenant $$`,
        ...lend,
      ],
      'drop function app.planted(text)',
      functions,
    ),
  ]
}

/** The tenant is bound to the session instead of the transaction, as one letter in the statement would do it. */
function leaksOfSessions(estate: Estate, backends: readonly Backend[]): Leak[] {
  const pooled = backends.find(({ name }) => name === 'pgbouncer') ?? backends.find(({ name }) => name === 'postgresql')
  if (!pooled) return []
  let { db } = pooled
  return [
    {
      name: `${pooled.name}: a tenant that outlives its transaction`,
      part: () => proveConnections({ ...pooled, db }, estate),
      async plant() {
        const pool = new pg.Pool({ connectionString: pooled.url, max: 4 })
        pool.on('connect', bindToSession)
        db = drizzle(pool, { schema: tableDefinitions })
        return async () => {
          db = pooled.db
          // What the leak left on the connections of the pooler is a part of it.
          await pool.query('discard all')
          await pool.end()
        }
      },
    },
  ]
}

function bindToSession(client: pg.PoolClient): void {
  const query = client.query.bind(client)
  const rewritten = (statement: unknown): unknown =>
    typeof statement === 'object' && statement !== null && 'text' in statement && typeof statement.text === 'string'
      ? { ...statement, text: statement.text.replaceAll(/(set_config\([^()]*), true\)/g, '$1, false)') }
      : statement
  Object.assign(client, {
    query: (statement: unknown, ...rest: unknown[]) => Reflect.apply(query, client, [rewritten(statement), ...rest]),
  })
}
