import { getTableColumns } from 'drizzle-orm'
import { tenant } from '../../schema/tables/index.ts'

const columns = Object.entries(getTableColumns(tenant))

/** A tenant's row from the JSON that the database makes of it. */
export function tenantOfJson(json: Record<string, unknown>): typeof tenant.$inferSelect {
  const row = columns.map(([name, column]) => {
    const value = json[column.name]
    return [name, column.dataType === 'date' && typeof value === 'string' ? new Date(value) : value]
  })
  // The columns of the table, each with the value that the database has for it.
  return Object.fromEntries(row) as typeof tenant.$inferSelect
}
