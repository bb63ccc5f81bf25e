import { expect, test } from 'vitest'
import type { z } from 'zod'
import ingest from '../../../workers/processors/file/ingest.ts'
import reprocess from '../../../workers/processors/quality/reprocess.ts'
import { tenant, type Tenant } from '../../support/step-context.ts'

const destination = { table: 'people', business_key: ['id'] }

async function withQuarantine(): Promise<Tenant> {
  const t = await tenant()
  await t.write(
    'in.csv',
    'id,email,age\n1,a@b.example,30\n2,B@B.EXAMPLE ,31\n3,,20\n4,d@b.example,-4\nx,e@b.example,7\n',
  )
  const quality = {
    rules: [
      { rule: 'required' as const, columns: ['email'] },
      { rule: 'format' as const, column: 'email', pattern: '[a-z]+@b[.]example' },
      { rule: 'expression' as const, expression: "age >= '{least}'", name: 'grown' },
    ],
  }
  const columns = { id: 'BIGINT', age: 'BIGINT' }
  await t.run(
    ingest,
    { source: { path: 'in.csv', columns }, destination: { ...destination, quality } },
    { values: { least: 5 } },
  )
  return t
}
const people = async (t: Tenant) =>
  (await t.rows(`SELECT id, email, age FROM lake.main.people ORDER BY id`)).map(
    (row) => `${row['id']} ${row['email']} ${row['age']}`,
  )
const quarantine = async (t: Tenant) =>
  (await t.rows(`SELECT code, status, attempts FROM lake.raw.x_meta_rejected_rows ORDER BY line`)).map(
    (row) => `${row['code']} ${row['status']} ${row['attempts']}`,
  )

test('rows of the quarantine are corrected, checked by the rules of their load, and got in once; the others stay', async () => {
  await using t = await withQuarantine()
  expect(await people(t)).toEqual(['1 a@b.example 30'])
  expect(await quarantine(t)).toEqual([
    'RULE_FORMAT quarantined 0',
    'RULE_REQUIRED quarantined 0',
    'RULE_EXPRESSION quarantined 0',
    'TYPE quarantined 0',
  ])

  const corrections = { set: { email: 'lower(trim(email))', age: 'abs(CAST(age AS INTEGER))' }, where: "id <> 'x'" }
  const step = { runId: 'run_fix', stepKey: 'fix', fence: 50n }
  const first = await t.run(reprocess, { destination, corrections }, step)
  expect(first).toMatchObject({ taken: 4, released: 1, still_quarantined: 3, inserted: 1, deleted: 0 })
  expect(await people(t)).toEqual(['1 a@b.example 30', '2 b@b.example 31'])
  expect(await quarantine(t)).toEqual([
    'RULE_FORMAT released 1',
    'RULE_REQUIRED quarantined 1',
    'RULE_EXPRESSION quarantined 1',
    'TYPE quarantined 1',
  ])
  // The same step again finds its receipt.
  expect(await t.run(reprocess, { destination, corrections }, { ...step, fence: 51n })).toEqual(first)
  expect(await quarantine(t)).toEqual([
    'RULE_FORMAT released 1',
    'RULE_REQUIRED quarantined 1',
    'RULE_EXPRESSION quarantined 1',
    'TYPE quarantined 1',
  ])

  const rows = await t.rows(
    `SELECT rejected_id AS id, raw->>'$.id' AS key FROM lake.raw.x_meta_rejected_rows WHERE status = 'quarantined' ORDER BY line`,
  )
  const [empty, young, wrong] = rows.map((row) => String(row['id']))
  await t.write(
    'fix.csv',
    `rejected_id,id,email,age\n${empty},,c@b.example,\n${young},,,44\n${wrong},5,,\nnobody,9,z@b.example,9\n`,
  )
  expect(await t.run(reprocess, { destination, corrections: { file: 'fix.csv' } })).toMatchObject({
    taken: 3,
    released: 3,
    still_quarantined: 0,
  })
  const all = ['1 a@b.example 30', '2 b@b.example 31', '3 c@b.example 20', '4 d@b.example 44', '5 e@b.example 7']
  expect(await people(t)).toEqual(all)
  expect((await quarantine(t)).every((row) => row.includes('released'))).toBe(true)

  expect(await t.run(reprocess, { destination })).toMatchObject({ taken: 0, inserted: 0 })
  expect(await people(t)).toEqual(all)
  expect(await t.rows(`SELECT max(version)::INTEGER AS v, count(*)::INTEGER AS n FROM lake.raw.people`)).toEqual([
    { v: 1, n: 5 },
  ])
})

test('a reprocess that is stopped changes neither the table nor the quarantine', async () => {
  await using t = await withQuarantine()
  const before = await quarantine(t)
  const quality = { rules: [{ rule: 'not_null' as const, column: 'email', action: 'block' as const }] }
  await expect(t.run(reprocess, { destination: { ...destination, quality } })).rejects.toMatchObject({
    code: 'QUALITY_BLOCKED',
  })
  expect((await quarantine(t)).filter((row) => !row.includes('flagged')).toSorted()).toEqual(before.toSorted())
  expect(await people(t)).toEqual(['1 a@b.example 30'])
})

test('only the rows of a code or a run are taken, and what can go wrong is refused before anything moves', async () => {
  await using t = await withQuarantine()
  expect(await t.run(reprocess, { source: { codes: ['RULE_REQUIRED'] }, destination })).toMatchObject({
    taken: 1,
    released: 0,
  })
  expect(await t.run(reprocess, { source: { run_id: 'run_other' }, destination })).toMatchObject({ taken: 0 })
  await t.write('fix.csv', 'id,email\n1,x\n')
  const faults: z.input<typeof reprocess.settings>[] = [
    { destination: { ...destination, mode: 'replace' as const } },
    { destination, corrections: { set: { nobody: '1' } } },
    { destination, corrections: { set: { email: "read_text('/etc/passwd')" } } },
    { destination, corrections: { file: 'fix.csv' } },
  ]
  for (const settings of faults)
    await expect(t.run(reprocess, settings)).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
})
