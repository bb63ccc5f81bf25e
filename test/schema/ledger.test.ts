import { afterAll, beforeAll } from 'vitest'
import { memoryDatabase, refuseOtherTransitions } from '../support/database.ts'
import { ledgerCases } from './ledger-cases.ts'
import { exchangeCases } from './exchange-cases.ts'
import { readOnceCases } from './read-once-cases.ts'

let database: Awaited<ReturnType<typeof memoryDatabase>>
beforeAll(async () => {
  database = await memoryDatabase()
  await refuseOtherTransitions(database.db)
})
afterAll(() => database.close())

ledgerCases('embedded PostgreSQL', () => database.db)
exchangeCases('embedded PostgreSQL', () => database.db)
readOnceCases('embedded PostgreSQL', () => database.db)
