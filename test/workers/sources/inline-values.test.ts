import { expect, test } from 'vitest'
import { inlineValues } from '../../../workers/sources/inline-values.ts'

const escape = (value: string): string => `'${value.replaceAll("'", "''")}'`

test('parameters become literals, and nothing in quotes or comments is touched', () => {
  const text = `SELECT '$1', "$1", E'\\'$1', $$ $1 $$, $tag$ $1 $tag$, a$1, x -$2 -- $1
    /* $1 */ WHERE a = $1 AND b = $10 AND c = $3 AND d IS $4`
  const values = ["it's; $2", -5, true, null, 5, 6, 7, 8, 9, 'ten']
  expect(inlineValues(text, values, escape))
    .toBe(`SELECT '$1', "$1", E'\\'$1', $$ $1 $$, $tag$ $1 $tag$, a$1, x - -5 -- $1
    /* $1 */ WHERE a =  'it''s; $2' AND b =  'ten' AND c =  true AND d IS  NULL`)
})
