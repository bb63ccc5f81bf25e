import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { settingsFaults, sqlFields } from '../../../shared/config/catalog.ts'
import { sampleCatalog } from './sample-catalog.ts'

const faults = (type: string, settings: Record<string, unknown>): string[] => {
  const entry = sampleCatalog.find((candidate) => candidate.type === type)
  if (!entry) throw new Error(`no ${type}`)
  return settingsFaults(entry, settings).map(({ kind, path }) => `${kind} ${path.join('.')}`)
}
const check = { table: 't', rules: [{ rule: 'not_null', column: 'c' }] }
const load = { source: { query: 'SELECT 1' }, destination: { table: 't' } }

describe('SQL fields', () => {
  test('are found in groups, lists, records and every form of a union', () => {
    const sql = z.string().meta({ 'x-sql': true })
    const schema = z.toJSONSchema(
      z.object({
        query: sql,
        source: z.object({ query: sql, other: z.string() }).optional(),
        list: z.array(z.union([sql, z.object({ where: sql })])),
        named: z.record(z.string(), z.object({ sql: sql.optional() })),
        other: z.string().meta({ 'x-sql': 'bigquery' }),
        unknown: z.string().meta({ 'x-sql': 'cobol' }),
      }),
      { io: 'input' },
    )
    expect(sqlFields(schema).map(({ path, dialect }) => `${path.join('.')} ${dialect}`)).toEqual([
      'query standard',
      'source.query standard',
      'list.* standard',
      'list.*.where standard',
      'named.*.sql standard',
      'other bigquery',
    ])
  })
})

describe('settings', () => {
  test('that fit have no fault', () => {
    expect(faults('quality.check', check)).toEqual([])
    expect(faults('db.load', load)).toEqual([])
  })

  test.each(['{n}', '{n}000', 'a{date}b'])('%s fits a number, a choice and a text with a form', (text) => {
    expect(
      faults('db.load', { ...load, engine: text, destination: { table: text, mode: text, batch_rows: text } }),
    ).toEqual([])
    expect(faults('notify_systems.email_notification', { to_emails: [text] })).toEqual([])
    expect(
      faults('quality.check', { ...check, limit: text, rules: [{ rule: 'range', column: text, min: text }] }),
    ).toEqual([])
  })

  test('one placeholder fits a list, a text with one does not', () => {
    expect(faults('notify_systems.email_notification', { to_emails: '{steps.a.to}' })).toEqual([])
    expect(faults('notify_systems.email_notification', { to_emails: 'x {steps.a.to}' })).toEqual(['bad to_emails'])
  })

  test('literal braces are no placeholder', () => {
    expect(faults('db.load', { ...load, destination: { table: 't', batch_rows: '{{n}' } })).toEqual([
      'bad destination.batch_rows',
    ])
  })

  test('all faults are told at once, in the form of a union that was meant', () => {
    expect(
      faults('quality.check', {
        rules: [{ rule: 'range', colum: 'c', min: 'x' }, { rule: 'nul' }],
        limit: 'some',
        more: 1,
      }).sort(),
    ).toEqual([
      'bad limit',
      'bad rules.0.min',
      'bad rules.1.rule',
      'missing rules.0.column',
      'missing table',
      'unknown more',
      'unknown rules.0.colum',
    ])
  })
})
