import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { Column } from '../../workers/define.ts'
import type { Connection, Row } from '../../workers/lake/connection.ts'
import { loadVersioned } from '../../workers/lake/load-versioned.ts'
import { literal, quoted } from '../../workers/lake/names.ts'
import { restore } from '../../workers/lake/restore.ts'
import { keysFrom, openRejected } from '../../workers/lake/staging.ts'
import { tenant } from '../support/step-context.ts'

const columns: Column[] = [
  { name: 'id', type: 'VARCHAR' },
  { name: 'part', type: 'VARCHAR' },
  { name: 'amount', type: 'BIGINT' },
  { name: 'first', type: 'VARCHAR' },
  { name: 'second', type: 'VARCHAR' },
]
const names = columns.map(({ name }) => name)

type Value = string | number | null
type Record = { id: string; part: string; amount: Value; first: Value; second: Value }
type Snapshot = Map<string, Record>
type Step = { fates: string[]; added: Record[]; snapshot: 'full' | 'delta'; order: string[] }

// Keys that a careless join of their parts takes for one another.
const keyPart = fc.constantFrom('a', 'b', 'a_b', 'b_c', 'c', '_', '', '%5F', 'a%', "o'k", '1', '01', 'ü', 'a\u001fb')
const text = fc.constantFrom(null, '', 'x', 'y', 'NULL', '\u001f', 'x\u001f', 'long '.repeat(20))
const record = fc.record({
  id: keyPart,
  part: keyPart,
  amount: fc.constantFrom(null, 0, 1, -1, 2 ** 40),
  first: text,
  second: text,
})
const keyOf = ({ id, part }: Record): string => JSON.stringify([id, part])
const firstSnapshot = fc
  .uniqueArray(record, { selector: keyOf, maxLength: 12 })
  .map((rows): Snapshot => new Map(rows.map((row) => [keyOf(row), row])))

// How one record of the snapshot before fares in the next one.
const fate = fc.constantFrom('keep', 'keep', 'drop', 'swap', 'empty', 'fill', 'change')
const step = fc.record({
  fates: fc.array(fate, { minLength: 12, maxLength: 12 }),
  added: fc.array(record, { maxLength: 4 }),
  snapshot: fc.constantFrom('full' as const, 'full' as const, 'delta' as const),
  order: fc.shuffledSubarray(names, { minLength: names.length }),
})
const history = fc.record({
  first: firstSnapshot,
  steps: fc.array(step, { minLength: 1, maxLength: 3 }),
  backTo: fc.nat(),
})

function changed(row: Record, how: string): Record | undefined {
  switch (how) {
    case 'drop':
      return undefined
    case 'swap':
      return { ...row, first: row.second, second: row.first }
    case 'empty':
      return { ...row, amount: null, first: null }
    case 'fill':
      return { ...row, first: row.first ?? 'filled', amount: row.amount ?? 7 }
    case 'change':
      return { ...row, amount: Number(row.amount) + 1 }
    default:
      return row
  }
}

function sourceOf(before: Snapshot, { fates, added }: Step): Snapshot {
  const next: Snapshot = new Map()
  for (const [index, row] of [...before.values()].entries()) {
    const then = changed(row, fates[index % fates.length] ?? 'keep')
    if (then) next.set(keyOf(then), then)
  }
  for (const row of added) next.set(keyOf(row), row)
  return next
}

const differing = (a: Record, b: Record): string[] =>
  (['amount', 'first', 'second'] as const).filter((name) => a[name] !== b[name])

// What a load must count, told by the generator's own records.
function expected(before: Snapshot, source: Snapshot, snapshot: 'full' | 'delta') {
  const both = [...source].flatMap(([key, row]) => {
    const old = before.get(key)
    return old ? [{ key, fields: differing(old, row) }] : []
  })
  const updates = both.filter(({ fields }) => fields.length > 0)
  return {
    after: snapshot === 'full' ? source : new Map([...before, ...source]),
    fields: updates.map(({ fields }) => fields.join()).sort(),
    counts: {
      rowsIn: source.size,
      rejected: 0,
      inserted: source.size - both.length,
      updated: updates.length,
      deleted: snapshot === 'full' ? [...before.keys()].filter((key) => !source.has(key)).length : 0,
      unchanged: both.length - updates.length,
    },
  }
}

const sqlValue = (value: Value): string =>
  value === null ? 'NULL' : typeof value === 'number' ? String(value) : literal(value)

async function load(
  connection: Connection,
  table: string,
  number: number,
  rows: Snapshot,
  snapshot: 'full' | 'delta',
  order: readonly string[] = names,
) {
  const staged = order.flatMap((name) => columns.filter((column) => column.name === name))
  await openRejected(connection)
  const list = staged.map(({ name, type }) => `${quoted(name)} ${type}`).join(', ')
  await connection.run(`CREATE OR REPLACE TEMP TABLE given (${list})`)
  const values = [...rows.values()].map(
    (row) => `(${staged.map(({ name }) => sqlValue(row[name as keyof Record])).join(', ')})`, // names are those of Record
  )
  if (values.length > 0) await connection.run(`INSERT INTO given VALUES ${values.join(', ')}`)
  const relation = `(SELECT g.*, g.rowid + 1 AS __row FROM given g ANTI JOIN rejected r ON g.rowid + 1 = r.__row)`
  return await loadVersioned(connection, {
    attempt: { runId: `run_${table}_${number}`, stepKey: 's', cycle: 0, fence: BigInt(number), number: 1 },
    orgId: 'acme',
    actor: 'usr_1',
    table,
    businessKey: ['id', 'part'],
    snapshot,
    source: {
      columns: staged,
      untyped: [],
      relation,
      keep: '__row DESC',
      files: [],
      keysOfRejected: keysFrom(relation),
      locate: async () => {},
    },
  })
}

const sorted = (rows: readonly (Row | Record)[]): string[] =>
  rows
    .map((row) =>
      JSON.stringify([row.id, row.part, row.amount === null ? null : String(row.amount), row.first, row.second]),
    )
    .sort()

const select = (from: string): string => `SELECT ${names.join(', ')} FROM ${from}`

// Everything of the versions that no later load may touch.
const versions = (table: string, where = 'true'): string =>
  `SELECT md5(string_agg(v::VARCHAR, chr(30) ORDER BY composite_key, version)) AS digest, count(*)::INTEGER AS n
   FROM (SELECT * EXCLUDE (is_current) FROM lake.raw.${table} WHERE ${where}) v`

/** Every count of `part` must be the same in `whole`. */
const includes = <W extends object>(whole: W, part: Partial<W>): void =>
  assert.deepEqual(Object.fromEntries(Object.keys(part).map((key) => [key, whole[key as keyof W]])), part) // keys of a part

/**
 * Loads random histories of a table, and holds counts, changed fields, the state after each load, every past state, a
 * reload of the same rows and a restore against what the generator knows. Gives the number of histories that held; throws the smallest one that does not.
 */
export async function proveHistories(cases: number): Promise<number> {
  await using t = await tenant()
  using connection = await t.lake.connect(new AbortController().signal)
  let made = 0
  await fc.assert(
    fc.asyncProperty(history, (given) => proveHistory(connection, `t${++made}`, given)),
    { numRuns: cases },
  )
  return made
}

async function proveHistory(
  connection: Connection,
  table: string,
  { first, steps, backTo }: { first: Snapshot; steps: Step[]; backTo: number },
): Promise<void> {
  const states: { state: Snapshot; moment: string }[] = []
  const keep = async (state: Snapshot): Promise<void> => {
    const [head] = await connection.rows(
      `SELECT loaded_at::VARCHAR AS moment FROM lake.raw.x_meta_table_heads WHERE table_name = $1`,
      [table],
    )
    states.push({ state, moment: String(head?.['moment']) })
  }
  includes(await load(connection, table, 1, first, 'full'), { inserted: first.size })
  await keep(first)
  let before = first
  for (const given of steps) {
    const source = sourceOf(before, given)
    const want = expected(before, source, given.snapshot)
    const number = states.length + 1
    includes(await load(connection, table, number, source, given.snapshot, given.order), want.counts)
    const fields = await connection.rows(
      `SELECT array_to_string(changed_fields, ',') AS f FROM lake.raw.${table} WHERE load_number = ${number} AND change_type = 'UPDATE'`,
    )
    assert.deepEqual(fields.map((row) => row['f']).sort(), want.fields)
    before = want.after
    await keep(before)
  }
  // The same again writes nothing.
  const rows = await connection.rows(versions(table))
  const again = await load(connection, table, states.length + 1, before, 'full')
  includes(again, { inserted: 0, updated: 0, deleted: 0, unchanged: before.size })
  assert.deepEqual(await connection.rows(versions(table)), rows)
  await keep(before)
  // Every state that was kept is what the table says it was then.
  for (const [index, { state, moment }] of states.entries()) {
    const past = sorted([...state.values()])
    assert.deepEqual(sorted(await connection.rows(select(`lake.main.${table}_as_of('${moment}')`))), past)
    assert.deepEqual(sorted(await connection.rows(select(`lake.main.${table}_as_of_load(${index + 1})`))), past)
  }
  // Back to one of them: as new versions, with the old ones untouched.
  const target = backTo % states.length
  const back = await restore(connection, {
    attempt: { runId: `run_${table}_back`, stepKey: 's', cycle: 0, fence: 99n, number: 1 },
    orgId: 'acme',
    actor: 'usr_2',
    table,
    at: { load: target + 1 },
  })
  const want = expected(before, states[target]?.state ?? new Map(), 'full')
  includes(back, want.counts)
  assert.deepEqual(sorted(await connection.rows(select(`lake.main.${table}`))), sorted([...want.after.values()]))
  assert.deepEqual(await connection.rows(versions(table, `load_number <= ${states.length}`)), rows)
  await connection.run(`DROP TABLE lake.raw.${table}; DELETE FROM lake.raw.x_meta_tables WHERE table_name = '${table}'`)
}
