import assert from 'node:assert/strict'
import fc from 'fast-check'
import { AppError } from '../../shared/errors.ts'
import type { ContractMode } from '../../workers/lake/contract.ts'
import ingest from '../../workers/processors/file/ingest.ts'
import { tenant, type Tenant } from '../support/step-context.ts'

// Some are words that SQL of ours might use for something else.
const names = ['a', 'b', 'f', 'h', 'k', 'change', 'place', 'file']
const values = [
  '',
  '1',
  '-7',
  '3.75',
  '99999999999999999999',
  'text',
  '2026-02-28',
  '2026-02-30',
  'true',
  '"quo ted"',
  '1e5',
  '00501',
]

type Change = { kind: 'add' | 'drop' | 'retype' | 'reorder' | 'recase' | 'reset'; name: string; to: string[] }
const change: fc.Arbitrary<Change> = fc.record({
  kind: fc.constantFrom('add', 'drop', 'retype', 'reorder', 'recase', 'reset', 'reset'),
  name: fc.constantFrom(...names),
  to: fc.array(fc.constantFrom(...values), { minLength: 1, maxLength: 3 }),
})

/** A source whose columns change: their order, their spelling, and the texts that stand in them. */
type Shape = Map<string, { header: string; texts: string[] }>

const first: Shape = new Map([['a', { header: 'a', texts: ['1'] }]])

function changed(shape: Shape, { kind, name, to }: Change): Shape {
  if (kind === 'reset') return first
  const next = new Map(shape)
  const old = next.get(name)
  if (kind === 'drop') next.delete(name)
  else if (kind === 'reorder') return new Map([...next].toReversed())
  else if (kind === 'recase' && old) next.set(name, { ...old, header: old.header === name ? name.toUpperCase() : name })
  else if (kind === 'add' || kind === 'retype') next.set(name, { header: old?.header ?? name, texts: to })
  return next
}

/**
 * Loads a source that changes its shape before each load, so many times, under one contract, and accounts for every row
 * that was ever given: it is in the table with the values that it had (or under discard_value with those beside it), in the
 * quarantine, or its load was refused as a whole. `lost` is the number of those that are nowhere.
 */
export async function proveSchemaChanges(
  contract: ContractMode,
  times: number,
): Promise<{ lost: number; loaded: number; rejected: number; refused: number }> {
  await using t = await tenant()
  const changes = fc.sample(change, times)
  let shape = first
  const tally = { lost: 0, loaded: 0, rejected: 0, refused: 0 }
  let id = 0
  for (const next of changes) {
    shape = changed(shape, next)
    const given = Array.from({ length: 4 }, (_, i) => {
      const row = new Map([...shape].map(([name, { texts }]) => [name, texts[i % texts.length] ?? '']))
      return { id: ++id, row }
    })
    const header = ['id', ...[...shape.values()].map((column) => column.header)]
    const lines = given.map(({ id, row }) => [String(id), ...row.values()].join())
    await t.write('in.csv', [header.join(), ...lines, ''].join('\n'))
    const destination = { table: 'orders', business_key: ['id'], snapshot: 'delta' as const, contract }
    try {
      const outputs = await t.run(ingest, { source: { path: 'in.csv', columns: { id: 'BIGINT' } }, destination })
      assert.equal(Number(outputs['rows']) + Number(outputs['rejected']), given.length)
    } catch (error) {
      if (!(error instanceof AppError && error.code === 'SCHEMA_MISMATCH' && contract === 'freeze')) throw error
      tally.refused += given.length
      continue
    }
    await account(t, given, contract, tally)
  }
  return tally
}

async function account(
  t: Tenant,
  given: { id: number; row: Map<string, string> }[],
  contract: ContractMode,
  tally: { lost: number; loaded: number; rejected: number },
): Promise<void> {
  const rows = new Map((await t.rows('SELECT * FROM lake.main.orders')).map((row) => [Number(row['id']), row]))
  const beside = await t.rows(`SELECT raw, code FROM lake.raw.x_meta_rejected_rows`)
  const quarantined = new Set(
    beside.flatMap(({ raw, code }) =>
      ['VALUE_DISCARDED'].includes(String(code)) || !String(raw).startsWith('{')
        ? []
        : [Number(JSON.parse(String(raw)).id)],
    ),
  )
  const discarded = new Set(beside.map(({ raw }) => raw))
  for (const { id, row } of given) {
    const found = rows.get(id)
    if (!found) {
      tally[quarantined.has(id) ? 'rejected' : 'lost']++
      continue
    }
    const byName = new Map(Object.entries(found).map(([name, value]) => [name.toLowerCase(), value]))
    const isWhole = [...row].every(([name, text]) => {
      const value = byName.get(name)
      if (text === '') return value === null || value === undefined
      const plain = text.replaceAll('"', '')
      if (value === null || value === undefined) return contract === 'discard_value' && discarded.has(plain)
      return String(value) === plain || Number(value) === Number(plain)
    })
    tally[isWhole ? 'loaded' : 'lost']++
  }
}
