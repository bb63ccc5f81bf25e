import { sql } from 'drizzle-orm'
import { tableFaults } from '../../scripts/tables.ts'
import { type Db, rowsOf, type Side } from '../../shared/db/db.ts'
import { attempt, attemptAs, inTurns, type Outcome, refusalOf } from './attempt.ts'
import { type Backend, freshConnection } from './backends.ts'
import { tenantTables } from './changes.ts'
import type { Estate } from './estate.ts'
import { tally, type Tally } from './tally.ts'

const sides: readonly Side[] = ['api', 'worker']
const commands = ['select', 'insert', 'update', 'delete'] as const
type Command = (typeof commands)[number]
// Whose rows are meant and who asks: A for its own, for B's and for its own to become B's; nobody, and an empty tenant.
const states = ['own', 'other', 'given away', 'unset', 'empty'] as const
type State = (typeof states)[number]

type Cell = { side: Side; table: string; column: string; command: Command; state: State }

// Rows of its own that a side may not reach with a right that it has.
const narrower: Record<string, string> = {
  'api delete outbox': 'only mail to people that was not sent is taken back',
  'api insert outbox': 'only mail to people is asked for',
  'worker insert pipeline': 'a worker keeps templates, and none that a tenant wrote',
  'worker insert tenant_key': 'a worker makes the key of a lake only',
  'worker insert pipeline_version': 'a worker keeps versions of templates only',
  'worker update pipeline': 'a worker moves templates to their newest version only',
}

/**
 * Every table with a tenant × every command × own rows, another's, own rows given away, no tenant and an empty one ×
 * both sides of the house: own rows are reached where the side has the right, others never. The tables' owner reaches
 * none. Statements come from as many clients as the backend has, mixed, so that what one left behind on a connection
 * would be found by another.
 */
export async function proveTables(backend: Backend, { a, b }: Estate): Promise<Tally> {
  const found = tally()
  const { name: on, db, superuser } = backend
  for (const fault of await tableFaults(superuser)) found.check(false, `${on}: ${fault}`)
  const rights = await rightsOf(superuser)
  const tables = await tenantTables(superuser)
  const never: (() => Promise<void>)[] = []
  const cells: (() => Promise<void>)[] = []
  const fresh = await freshConnection(backend)
  for (const { name: table, column } of tables)
    for (const side of sides)
      for (const command of commands)
        for (const state of states) {
          if (state === 'given away' && command !== 'update') continue
          const cell = { side, table, column, command, state }
          const right = rights.get(`${side} ${table} ${command}`)
          const statement = await statementOf(superuser, cell, { a: a.id, b: b.id }, right)
          const judge = (outcome: Outcome): void =>
            found.check(isRight(cell, right !== undefined, outcome), `${on} ${side} ${command} ${table} ${state}`, () =>
              JSON.stringify(outcome),
            )
          if (state !== 'unset') {
            const tenantId = state === 'empty' ? '' : a.id
            cells.push(async () => judge(await attempt(db, tenantId, side, statement)))
          } else if (!fresh) never.push(async () => judge(await attempt(db, undefined, side, statement)))
          else
            never.push(async () => {
              await fresh.query('begin')
              await fresh.query(`set local role tributary_${side}`)
              judge(
                await fresh.query(statement).then(({ rows, rowCount }) => ({ rows, count: rowCount ?? 0 }), refusalOf),
              )
              await fresh.query('rollback')
            })
        }
  for (const { name } of tables)
    cells.push(async () => {
      const outcome = await attemptAs(superuser, backend.owner, `select 1 from app.${name}`)
      found.check('rows' in outcome && outcome.count === 0, `${on}: the owner reads ${name}`, () =>
        JSON.stringify(outcome),
      )
    })
  // First what names no tenant: on the embedded database, before its one connection has ever named one.
  await inTurns(never, 1)
  await inTurns(cells, backend.clients)
  await fresh?.end()
  return found
}

function isRight({ side, table, command, state }: Cell, hasRight: boolean, outcome: Outcome): boolean {
  const isRefused = 'code' in outcome
  if (!hasRight) return isRefused ? outcome.code === '42501' : outcome.count === 0
  if (state === 'own' && !(`${side} ${command} ${table}` in narrower))
    return isRefused ? outcome.code !== '42501' : outcome.count > 0
  // A key that is taken or missing elsewhere must not be what refuses a row: it would tell what there is.
  if (isRefused) return !['23505', '23503'].includes(outcome.code) || state === 'own'
  return state === 'own' || (command !== 'insert' && outcome.count === 0)
}

/** Columns that a side may use with a command, where it may use any, by `side table command`. */
export async function rightsOf(db: Db): Promise<Map<string, string[]>> {
  const rows = await rowsOf<{ side: string; table: string; command: string; columns: string[] }>(
    db,
    sql`select s.side, c.relname as table, p.command, array_agg(a.attname::text order by a.attnum) as columns
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
        cross join (values ('api'), ('worker')) s (side) cross join (values ('select'), ('insert'), ('update'), ('delete')) p (command)
        where c.relnamespace = 'app'::regnamespace and c.relkind in ('r', 'p')
          and case p.command when 'delete' then has_table_privilege('tributary_' || s.side, c.oid, 'delete')
            else has_column_privilege('tributary_' || s.side, c.oid, a.attnum, p.command) end
        group by 1, 2, 3`,
  )
  return new Map(rows.map(({ side, table, command, columns }) => [`${side} ${table} ${command}`, columns]))
}

async function statementOf(
  db: Db,
  { table, column, command, state }: Cell,
  { a, b }: { a: string; b: string },
  columns: readonly string[] = [column],
): Promise<string> {
  const isOfNobody = state === 'unset' || state === 'empty'
  const whose = state === 'own' || state === 'given away' ? a : b
  const where = isOfNobody ? '' : ` where ${column} = '${whose}'`
  if (command === 'select') return `select 1 from app.${table}${where}`
  if (command === 'delete') return `delete from app.${table}${where}`
  if (command === 'update') {
    if (state === 'given away') return `update app.${table} set ${column} = '${b}'${where}`
    return `update app.${table} set "${columns[0]}" = "${columns[0]}"${where}`
  }
  const [row] = await rowsOf<{ row: Record<string, unknown> }>(
    db,
    sql.raw(`select to_jsonb(t) as row from app.${table} t where ${column} = '${whose}' limit 1`),
  )
  if (!row) throw new Error(`app.${table} has no row of ${whose}`)
  const given = state === 'empty' ? { ...row.row, [column]: '' } : row.row
  const names = columns.map((name) => `"${name}"`).join(', ')
  const json = JSON.stringify(given).replaceAll("'", "''")
  return `insert into app.${table} (${names}) select ${names} from jsonb_populate_record(null::app.${table}, '${json}'::jsonb)`
}
