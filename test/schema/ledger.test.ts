import { afterAll, beforeAll } from 'vitest'
import { memoryDatabase } from '../support/database.ts'
import { ledgerCases } from './ledger-cases.ts'

let database: Awaited<ReturnType<typeof memoryDatabase>>
beforeAll(async () => {
  database = await memoryDatabase()
})
afterAll(() => database.close())

ledgerCases('embedded PostgreSQL', () => database.db)
