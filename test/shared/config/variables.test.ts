import { describe, expect, test } from 'vitest'
import { builtInNames, type Values } from '../../../schema/config/variables.ts'
import { parsePipeline } from '../../../shared/config/parse.ts'
import { pipelineName, renderText, resolveSettings, variableValues } from '../../../shared/config/variables.ts'
import { sampleCatalog } from './sample-catalog.ts'

const builtins = { tenant_id: 'guru_232342', run_id: 'run_1', trigger: 'manual', datetime: '2024-03-01T04:05:06.000Z' }
const profile = { admin_email: 'admin@guru.example', company_name: 'Größe & Co' }

function pipelineWith(head: string) {
  const step = '{ step_id: a, ps_type: quality.check, table: t, rules: [{ rule: not_null, column: c }] }'
  const parsed = parsePipeline(`pipeline_id: "{tenant_id}_p"\n${head}\nsteps: [${step}]`, { catalog: sampleCatalog })
  if (!('pipeline' in parsed)) throw new Error(JSON.stringify(parsed.problems))
  return parsed.pipeline
}

const valuesOf = (head: string, parameters: Values = {}): Values =>
  variableValues({ pipeline: pipelineWith(head), builtins, profile, parameters })

describe('values of a run', () => {
  test('built-ins say tenant, run, day and profile', () => {
    expect(valuesOf('')).toEqual({
      tenant_id: 'guru_232342',
      run_id: 'run_1',
      pipeline_id: 'guru_232342_p',
      date: '2024-03-01',
      date_nodash: '20240301',
      datetime: '2024-03-01T04:05:06.000Z',
      admin_email: 'admin@guru.example',
      company_name: 'Größe & Co',
      trigger: 'manual',
    })
    expect(Object.keys(valuesOf('')).sort()).toEqual([...builtInNames].sort())
  })

  test('a run for another day moves date and date_nodash together', () => {
    expect(valuesOf('', { date: '2024-11-01' })).toMatchObject({ date: '2024-11-01', date_nodash: '20241101' })
  })

  test('a day that does not exist is refused', () => {
    expect(() => valuesOf('', { date: '2024-02-31' })).toThrow(expect.objectContaining({ code: 'PARAMETER_INVALID' }))
  })

  test('variables are rendered against built-ins and parameters, and a parameter of that name wins', () => {
    const head =
      'variables: { target: "x_{date_nodash}_{region}", n: 5, copy: "{rows}" }\nparameters: { region: { type: string }, rows: { type: integer } }'
    expect(valuesOf(head, { region: 'eu', rows: 7 })).toMatchObject({ target: 'x_20240301_eu', n: 5, copy: 7 })
    expect(valuesOf(head, { region: 'eu', rows: 7, target: '{date}' })).toMatchObject({ target: '{date}' })
  })

  test.each(builtInNames.filter((name) => name !== 'date'))('no parameter can be %s', (name) => {
    expect(valuesOf('', { [name]: 'forged' })[name]).toBe(valuesOf('')[name])
  })

  test('the name of a pipeline is the tenant and its own', () => {
    expect(pipelineName(pipelineWith(''), 'acme', profile)).toBe('acme_p')
  })
})

describe('placeholders', () => {
  const values: Values = {
    a: '{b}',
    b: '{a}',
    n: 5,
    flag: false,
    none: null,
    empty: '',
    date: '2024-01-31',
    datetime: '2024-02-29T23:30:00.000Z',
    name: 'Größe & Co',
    list: ['x', 'y'],
    steps: { zip: { path: 'out/a.zip', paths: ['p', 'q'], nested: { deep: 1 } } },
  }

  test.each([
    ['{a}', '{b}'],
    ['x{a}{b}', 'x{b}{a}'],
    ['{{a}', '{a}'],
    ['{{{n}}', '{5}'],
    ['{ n } {N} {} {1} {a-b} {"n":1}', '{ n } {N} {} {1} {a-b} {"n":1}'],
    ['{n}{flag}[{none}]', '5false[]'],
    ['{date | date_add:1mo}', '2024-02-29'],
    ['{date | date_add:-1d | date_format:yyyyMMdd}', '20240130'],
    ['{date|date_add:1y}', '2025-01-31'],
    ['{date | date_add:-1w}', '2024-01-24'],
    ['{datetime | date_add:1h}', '2024-03-01T00:30:00.000Z'],
    ['{datetime | date_format:yyyy/MM/dd HH-mm-ss}', '2024/02/29 23-30-00'],
    ['{name | slug}', 'grosse_co'],
    ['{name | upper}|{name | lower}', 'GRÖSSE & CO|größe & co'],
    ['{empty | default:x y}', 'x y'],
    ['{none | default:}', ''],
    ['{gone | default:0 | upper}', '0'],
    ['{steps.zip.path}', 'out/a.zip'],
  ])('%s becomes %s', (text, rendered) => {
    expect(renderText(text, values)).toBe(rendered)
  })

  test.each([
    ['{gone}', 'VARIABLE_UNKNOWN'],
    ['{steps.zip.size}', 'VARIABLE_UNKNOWN'],
    ['{constructor}', 'VARIABLE_UNKNOWN'],
    ['{__proto__}', 'VARIABLE_UNKNOWN'],
    ['{steps.constructor.name}', 'VARIABLE_UNKNOWN'],
    ['{name.length}', 'VARIABLE_UNKNOWN'],
    ['x{list}', 'CONFIG_INVALID'],
    ['{name | date_add:1d}', 'CONFIG_INVALID'],
    ['{list | upper}', 'CONFIG_INVALID'],
    ['{date | date_add:99999y}', 'CONFIG_INVALID'],
  ])('%s throws %s', (text, code) => {
    expect(() => renderText(text, values)).toThrow(expect.objectContaining({ code }))
  })

  test('a setting that is one placeholder keeps the type of the value', () => {
    const settings = { n: '{n}', f: '{flag}', z: '{none}', l: '{list}', t: '{n} ', deep: { o: '{steps.zip.nested}' } }
    expect(resolveSettings(settings, [], values)).toEqual({
      n: 5,
      f: false,
      z: null,
      l: ['x', 'y'],
      t: '5 ',
      deep: { o: { deep: 1 } },
    })
  })

  test('a list in a list gives its items', () => {
    expect(resolveSettings({ paths: ['a', '{steps.zip.paths}', '{n}'], pairs: [['x']] }, [], values)).toEqual({
      paths: ['a', 'p', 'q', 5],
      pairs: [['x']],
    })
  })

  test('SQL fields stay as written, wherever they stand', () => {
    const settings = {
      source: { query: '{n}', cursor: '{n}' },
      rules: [{ where: '{n}', name: '{n}' }],
      any: { k: { sql: '{n}' } },
    }
    const paths = [
      ['source', 'query'],
      ['rules', '*', 'where'],
      ['any', '*', 'sql'],
    ]
    expect(resolveSettings(settings, paths, values)).toEqual({
      source: { query: '{n}', cursor: 5 },
      rules: [{ where: '{n}', name: 5 }],
      any: { k: { sql: '{n}' } },
    })
  })

  test('a value repeated over and over is refused before it fills the memory', () => {
    const long = { v: 'x'.repeat(10_000) }
    expect(() => renderText('{v}'.repeat(80_000), long)).toThrow(expect.objectContaining({ code: 'TOO_LARGE' }))
    const many = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`k${i}`, '{v} ']))
    expect(() => resolveSettings(many, [], long)).toThrow(expect.objectContaining({ code: 'TOO_LARGE' }))
  })

  test('settings are not changed in place', () => {
    const settings = { a: ['{n}'], b: { c: '{n}' } }
    resolveSettings(settings, [], values)
    expect(settings).toEqual({ a: ['{n}'], b: { c: '{n}' } })
  })
})
