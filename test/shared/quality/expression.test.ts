import { expect, test } from 'vitest'
import { parsePipeline } from '../../../shared/config/parse.ts'
import { columnsOf } from '../../../shared/quality/columns-of.ts'
import { parseExpression } from '../../../shared/quality/expression.ts'
import { ruleFault } from '../../../shared/quality/rule-fault.ts'
import { qualityRule } from '../../../schema/config/quality.ts'

test('an expression is read with the precedence of SQL, and tells which columns it names', () => {
  expect(parseExpression('a + b * 2 > 1 OR NOT c AND d')).toEqual(
    parseExpression('((a + (b * 2)) > 1) OR ((NOT c) AND d)'),
  )
  expect(parseExpression('-a - -1 - 2')).toEqual(parseExpression('((-a) - (-1)) - 2'))
  const text = `CASE WHEN "Odd ""name" IN (1, x) THEN lower(y) ELSE CAST(z AS DECIMAL(10,2)) END IS NOT DISTINCT FROM y`
  expect(columnsOf(parseExpression(text)).toSorted()).toEqual(['Odd "name', 'x', 'y', 'z'])
  expect(columnsOf(parseExpression(`DATE '2026-01-01' < seen AND 'a''b' NOT LIKE 'x' AND true IS NULL`))).toEqual([
    'seen',
  ])
})

test.each([
  ["read_text('/etc/passwd') = ''", 0],
  ['a > 0; DROP TABLE orders', 5],
  ['a = (SELECT max(a) FROM orders)', 5],
  ['EXISTS (SELECT 1)', 0],
  ['a = 1 -- comment;', 16],
  ['a = 1 /* comment */', 7],
  ['a = $$b$$', 4],
  ["a = 'open", 4],
  ['"open = 1', 0],
  ['lake.raw.x_meta_tables = 1', 4],
  ["getenv('HOME') = ''", 0],
  ["CAST(a AS ENUM('x'))", 18],
  ['a = [1][1]', 4],
  ["a = x'00'", 5],
  ['a COLLATE NOCASE = 1', 2],
  ['lower(a, b)', 0],
  ['', 0],
  ['a AND', 5],
  ['constructor(a)', 0],
  ['a = ?', 4],
  ['a = b\\c', 5],
])('%s is no expression, and the place where is told', (text, offset) => {
  expect(() => parseExpression(text)).toThrow(expect.objectContaining({ name: 'ExpressionError', offset }))
})

test('an expression that nests without end is refused and takes no stack', () => {
  for (const text of [
    '('.repeat(5000),
    'NOT '.repeat(5000),
    '-'.repeat(5000),
    'abs('.repeat(5000),
    `${'CASE WHEN '.repeat(500)}a`,
  ])
    expect(() => parseExpression(text)).toThrow(/nested too deeply|not expected here/)
  const long = Array.from({ length: 300 }, (_, i) => `c${i} = 1`).join(' OR ')
  expect(columnsOf(parseExpression(long))).toHaveLength(300)
})

const pipeline = (rules: string) => `version: 1
pipeline_id: orders

steps:
  - step_id: load
    ps_type: file.ingest
    source: { path: in.csv }
    destination:
      table: orders
      quality:
        rules:
${rules}
`

test.each([
  [
    `          - { rule: expression, expression: "low <= read_text('x')" }`,
    12,
    53,
    /the function read_text is not available/,
  ],
  [`          - rule: expression\n            expression: low <= high OR (`, 13, 25, /ends too early/],
  [`          - { rule: range, column: a, min: 5, max: 1 }`, 12, 44, /min: it is greater than max/],
  [`          - { rule: format, column: a, pattern: "(?=x)" }`, 12, 49, /lookahead/],
  [`          - { rule: row_count, min: 1, action: quarantine }`, 12, 48, /no row to quarantine/],
])('a rule that makes no sense is a problem of the file, with line and column: %s', (rules, line, column, message) => {
  const parsed = parsePipeline(pipeline(rules), {})
  const errors = 'problems' in parsed ? parsed.problems : []
  expect(errors).toEqual([
    expect.objectContaining({ code: 'BAD_VALUE', line, column, message: expect.stringMatching(message) }),
  ])
})

test('a rule that quarantines rows of a view is a problem of the file, and of a table it is none', () => {
  const text = `# orders

pipeline_id: orders

steps:
  - step_id: one
    ps_type: sql.transform
    query: SELECT 1 AS a
    destination: { table: seen, mode: view }
    rules: [{ rule: not_null, column: a, action: quarantine }]
  - step_id: several
    ps_type: sql.transform
    models:
      - { name: kept, query: SELECT 1 AS a, rules: [{ rule: not_null, column: a, action: quarantine }] }
      - name: other
        query: SELECT 1 AS a
        mode: view
        rules:
          - { rule: not_null, column: a, action: warn }
          - { rule: not_null, column: a, action: quarantine }
`
  const parsed = parsePipeline(text, {})
  expect('problems' in parsed ? parsed.problems : []).toEqual(
    [
      [10, 50],
      [20, 50],
    ].map(([line, column]) =>
      expect.objectContaining({
        code: 'BAD_VALUE',
        line,
        column,
        message: expect.stringMatching(/a view has no rows/),
      }),
    ),
  )
})

test.each([
  [{ rule: 'range', column: 'a' }, 'rule'],
  [{ rule: 'range', column: 'a', min: '10', max: '2' }, 'min'],
  [{ rule: 'format', column: 'a' }, 'rule'],
  [{ rule: 'format', column: 'a', format: 'email', country: 'DE' }, 'country'],
  [{ rule: 'format', column: 'a', pattern: '(a)\\1' }, 'pattern'],
  [{ rule: 'reference', columns: ['a', 'b'], table: 't', to: ['a'] }, 'to'],
  [{ rule: 'schema', columns: {} }, 'columns'],
  [{ rule: 'volume', loads: 2 }, 'min_loads'],
  [{ rule: 'range', column: 'a', min: '2026-01-01', max: '2026-02-01' }, undefined],
  [{ rule: 'format', column: 'a', pattern: '(?i)(?P<x>a|b)+' }, undefined],
  [{ rule: 'volume' }, undefined],
])('%o is at fault in %s', (rule, key) => {
  expect(ruleFault(qualityRule.parse(rule))?.key).toBe(key)
})
