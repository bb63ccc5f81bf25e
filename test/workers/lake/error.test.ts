import { expect, test } from 'vitest'
import { scrubbed } from '../../../workers/lake/error.ts'
import { rowCanary } from '../../support/canary.ts'

const word = rowCanary('in-a-message')

// As the engine writes them, with the value in its place.
const ofRows: [says: string, shown: string][] = [
  [
    `Conversion Error: Could not convert string '${word}' to INT32 when casting from source column customer\n\nLINE 1: SELECT CAST(customer AS INTEGER) FROM t\n               ^`,
    'Conversion Error: a value does not fit the type INT32, in column customer. LINE 1: SELECT CAST(customer AS INTEGER) FROM t ^',
  ],
  [
    `Conversion Error: Could not convert string "${word}" to DECIMAL(3,1)`,
    'Conversion Error: a value does not fit the type DECIMAL(3,1).',
  ],
  [
    `Conversion Error: invalid date field format: "${word}", expected format is (YYYY-MM-DD)`,
    'Conversion Error: a value does not fit.',
  ],
  [`Invalid Input Error: ${word}`, 'Invalid Input Error: a value does not fit.'],
  [
    `Invalid Input Error: CSV Error on Line: 3\nOriginal Line: ${word},2\nExpected Number of Columns: 3 Found: 2`,
    'Invalid Input Error: a value does not fit, on line 3.',
  ],
  [
    `Constraint Error: Duplicate key "id: ${word}" violates primary key constraint.`,
    'Constraint Error: a value does not fit.',
  ],
  [
    `Out of Range Error: Overflow in multiplication of INT32 (${word} * 2)!`,
    'Out of Range Error: a value does not fit.',
  ],
  [
    `Invalid Input Error: JSON transform error in file "/data/x.json", in record/value 2: Object {"a":"${word}"} has unknown key`,
    'Invalid Input Error: a value does not fit.',
  ],
]

test.for(ofRows)('what the engine says of rows is told without their values: %s', ([says, shown]) => {
  expect(scrubbed(new Error(says))).toBe(shown)
})

test.for([
  'Binder Error: Referenced column "nothing" not found in FROM clause! LINE 1: SELECT nothing FROM customers ^',
  'Parser Error: syntax error at or near "SELEC"',
  'Catalog Error: Table with name orders does not exist!',
  'Invalid Input Error: Malformed JSON in file "<path>", at byte 53 in record/value 3: unexpected end of data',
])('what it says of the statement or of a place in a file is told: %s', (says) => {
  expect(scrubbed(new Error(says))).toBe(says)
})
