import type { Bindable, Connection } from './connection.ts'

/** SQL for a value of a row, and `$n` in it for the bound ones. */
export type UpsertRow = Readonly<Record<string, string>>

/**
 * Writes one row of a table of the lake's own: in the place of the one that has the same `keys`, or beside all others. With
 * `keep` a row that is there stays as it is.
 */
export async function upsert(
  connection: Connection,
  table: string,
  keys: readonly string[],
  row: UpsertRow,
  values: readonly Bindable[],
  whenThere: 'replace' | 'keep' = 'replace',
): Promise<void> {
  const names = Object.keys(row)
  const sets = names.filter((name) => !keys.includes(name)).map((name) => `${name} = new.${name}`)
  await connection.run(
    `MERGE INTO lake.raw.${table} AS old
     USING (SELECT ${names.map((name) => `${row[name]} AS ${name}`).join(', ')}) AS new
     ON ${keys.map((key) => `old.${key} = new.${key}`).join(' AND ')}
     ${whenThere === 'keep' ? '' : `WHEN MATCHED THEN UPDATE SET ${sets.join(', ')}`}
     WHEN NOT MATCHED THEN INSERT (${names.join(', ')}) VALUES (${names.map((name) => `new.${name}`).join(', ')})`,
    values,
  )
}
