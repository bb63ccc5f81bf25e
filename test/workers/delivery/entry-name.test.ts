import { expect, test } from 'vitest'
import { safeEntryName } from '../../../workers/delivery/entry-name.ts'

const refused = [
  '',
  '/etc/passwd',
  '//host/share',
  '../up.csv',
  'a/../b.csv',
  'a/..',
  './a.csv',
  'a/./b.csv',
  'a//b.csv',
  'a/',
  'C:\\a.csv',
  'C:a.csv',
  'a\\b.csv',
  '..\\up.csv',
  'a\0.csv',
  'a\n.csv',
  'a\u0085.csv',
  'a\u202Ecsv.exe',
  'a.csv:stream',
  'a?.csv',
  'a|b.csv',
  'CON',
  'con.csv',
  'sub/NUL.txt',
  'com1',
  'LPT9.csv',
  'end.',
  'end ',
  '...',
  '\uD800.csv',
  `${'x'.repeat(256)}`,
  `${'é'.repeat(128)}`,
  `${'dir/'.repeat(256)}a`,
]
test.each(refused)('%j is refused, not repaired', (name) => {
  expect(() => safeEntryName(name, new Set())).toThrow(expect.objectContaining({ code: 'PATH_INVALID' }))
})

test.each(['orders.csv', 'eu/2026/orders.csv', '.hidden', 'Übung 1.csv', 'console.csv', '=cmd.csv', '-rf'])(
  '%j stays as it is',
  (name) => {
    expect(safeEntryName(name, new Set())).toBe(name)
  },
)

test('two names that meet on one file are refused', () => {
  const taken = new Set<string>()
  safeEntryName('Orders\u00e9.csv', taken)
  expect(() => safeEntryName('orderse\u0301.csv', taken)).toThrow(/same name/)
})
