/** The name of a tenant's table, as settings give it. */
export { tableName } from '../../schema/config/table-name.ts'

/** Columns that every versioned table has before those of the business. No source column may carry these names. */
export const envelope: readonly { name: string; type: string }[] = [
  { name: 'org_id', type: 'VARCHAR' },
  { name: 'composite_key', type: 'VARCHAR' },
  { name: 'version', type: 'INTEGER' },
  { name: 'data_hash', type: 'VARCHAR' },
  { name: 'change_type', type: 'VARCHAR' },
  { name: 'changed_fields', type: 'VARCHAR[]' },
  { name: 'previous_version', type: 'INTEGER' },
  { name: 'changed_by_user_id', type: 'VARCHAR' },
  { name: 'ingested_at', type: 'TIMESTAMPTZ' },
  { name: 'last_modified', type: 'TIMESTAMPTZ' },
  { name: 'is_current', type: 'BOOLEAN' },
  { name: 'is_deleted', type: 'BOOLEAN' },
  { name: 'source_file', type: 'VARCHAR' },
  { name: 'run_id', type: 'VARCHAR' },
  { name: 'step_key', type: 'VARCHAR' },
  { name: 'step_attempt', type: 'INTEGER' },
  { name: 'load_number', type: 'BIGINT' },
]

const envelopeNames = new Set(envelope.map((column) => column.name))

/** True when a name, in whatever case, is one of the envelope's. */
export const isEnvelopeName = (name: string): boolean => envelopeNames.has(name.toLowerCase())

/** An identifier for SQL. Quotes in it are doubled, so any text is safe. */
export const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`

/** A text literal for SQL, for the places that take no parameter. */
export const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** The table that keeps every version. */
export const versionsOf = (table: string): string => `lake.raw.${quoted(table)}`

/** The table or view that tenant SQL finds under the bare name. */
export const plainOf = (table: string): string => `lake.main.${quoted(table)}`
