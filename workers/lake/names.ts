import { z } from 'zod'

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

/** The name of a tenant's table: lower case, and none of those that the lake makes by itself. */
export const tableName = z
  .string()
  .regex(/^[a-z_][a-z0-9_]{0,59}$/, 'a table name has 1 to 60 of a-z, 0-9 and _, and does not begin with a digit')
  .refine((name) => !name.startsWith('x_meta_') && !name.endsWith('_current'), {
    message: 'names that begin with x_meta_ or end with _current belong to the lake',
  })

/** An identifier for SQL. Quotes in it are doubled, so any text is safe. */
export const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`

/** A text literal for SQL, for the places that take no parameter. */
export const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** The table that keeps every version. */
export const versionsOf = (table: string): string => `lake.raw.${quoted(table)}`

/** The table or view that tenant SQL finds under the bare name. */
export const plainOf = (table: string): string => `lake.main.${quoted(table)}`
