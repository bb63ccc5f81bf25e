import { AppError } from '../../shared/errors.ts'
import type { Connection } from './connection.ts'
import { createAsOf } from './as-of.ts'
import { envelope, literal, quoted, versionsOf } from './names.ts'

const tables = [
  `CREATE SCHEMA IF NOT EXISTS lake.raw`,
  // One row per load that is done; it commits with the rows of the load, and answers for it when the step is repeated.
  `CREATE TABLE IF NOT EXISTS lake.raw.x_meta_load_receipts (
     run_id VARCHAR NOT NULL, step_key VARCHAR NOT NULL, cycle INTEGER NOT NULL, table_name VARCHAR NOT NULL, fence UBIGINT NOT NULL,
     counts JSON NOT NULL, completed_at TIMESTAMPTZ NOT NULL, PRIMARY KEY (run_id, step_key, cycle))`,
  // What a step has fetched from a server, written before anything is moved or deleted there.
  `CREATE TABLE IF NOT EXISTS lake.raw.x_meta_download_receipts (
     run_id VARCHAR NOT NULL, step_key VARCHAR NOT NULL, cycle INTEGER NOT NULL, fence UBIGINT NOT NULL,
     files JSON NOT NULL, completed_at TIMESTAMPTZ NOT NULL, PRIMARY KEY (run_id, step_key, cycle))`,
  // Rows that did not get in (or failed a check): where they stood, what is wrong, and the row itself.
  `CREATE TABLE IF NOT EXISTS lake.raw.x_meta_rejected_rows (
     run_id VARCHAR NOT NULL, step_key VARCHAR NOT NULL, table_name VARCHAR NOT NULL, source_file VARCHAR, line BIGINT,
     column_name VARCHAR, code VARCHAR NOT NULL, reason VARCHAR NOT NULL, raw VARCHAR, rejected_at TIMESTAMPTZ NOT NULL)`,
  `CREATE TABLE IF NOT EXISTS lake.raw.x_meta_quality_metrics (
     run_id VARCHAR NOT NULL, step_key VARCHAR NOT NULL, table_name VARCHAR NOT NULL, measured_at TIMESTAMPTZ NOT NULL,
     score DOUBLE NOT NULL, row_count BIGINT NOT NULL, checks BIGINT NOT NULL, failed BIGINT NOT NULL, details JSON)`,
  ...added('x_meta_rejected_rows', {
    rejected_id: 'VARCHAR',
    status: 'VARCHAR',
    attempts: 'INTEGER',
    settled_by: 'VARCHAR',
    settled_at: 'TIMESTAMPTZ',
  }),
  ...added('x_meta_quality_metrics', {
    measured: 'VARCHAR',
    status: 'VARCHAR',
    load_number: 'BIGINT',
    completeness: 'DOUBLE',
    consistency: 'DOUBLE',
    validity: 'DOUBLE',
    records_with_errors: 'BIGINT',
    records_with_warnings: 'BIGINT',
    average_record_score: 'DOUBLE',
    alerts: 'JSON',
  }),
  // One row per rule and measurement: what the scores are made of.
  `CREATE TABLE IF NOT EXISTS lake.raw.x_meta_dq_results (
     run_id VARCHAR NOT NULL, pipeline_id VARCHAR NOT NULL, step_key VARCHAR NOT NULL, table_name VARCHAR NOT NULL, load_number BIGINT,
     measured_at TIMESTAMPTZ NOT NULL, rule VARCHAR NOT NULL, rule_name VARCHAR NOT NULL, columns VARCHAR[] NOT NULL,
     dimension VARCHAR NOT NULL, severity VARCHAR NOT NULL, action VARCHAR NOT NULL, status VARCHAR NOT NULL, checked BIGINT NOT NULL,
     failed BIGINT NOT NULL, failure_rate DOUBLE NOT NULL, reason VARCHAR)`,
  // One row per column and measurement. It holds values of rows and stays here.
  `CREATE TABLE IF NOT EXISTS lake.raw.x_meta_profiles (
     run_id VARCHAR NOT NULL, step_key VARCHAR NOT NULL, table_name VARCHAR NOT NULL, load_number BIGINT, measured_at TIMESTAMPTZ NOT NULL,
     column_name VARCHAR NOT NULL, data_type VARCHAR NOT NULL, row_count BIGINT NOT NULL, nulls BIGINT NOT NULL, distinct_count BIGINT,
     distinct_is_estimate BOOLEAN NOT NULL, min_value VARCHAR, max_value VARCHAR, mean DOUBLE, deviation DOUBLE, quantiles DOUBLE[],
     sample_rows BIGINT NOT NULL, top_values JSON, patterns JSON)`,
  ...added('x_meta_profiles', { pattern_rows: 'BIGINT' }),
  // Records with errors or warnings, by the version that has them. A record that is not here passed with a score of 1.
  `CREATE TABLE IF NOT EXISTS lake.raw.x_meta_record_quality (
     table_name VARCHAR NOT NULL, composite_key VARCHAR, version INTEGER, source_file VARCHAR, source_row BIGINT, load_number BIGINT NOT NULL,
     run_id VARCHAR NOT NULL, status VARCHAR NOT NULL, errors VARCHAR[] NOT NULL, warnings VARCHAR[] NOT NULL, score DOUBLE NOT NULL)`,
  // The rules of the newest load of each table that had any: quarantined rows are held against them again.
  `CREATE TABLE IF NOT EXISTS lake.raw.x_meta_quality_rules (
     table_name VARCHAR PRIMARY KEY, rules JSON NOT NULL, run_id VARCHAR NOT NULL, updated_at TIMESTAMPTZ NOT NULL)`,
  // What kind each table is: which mode made it, by which key its versions are told apart, and who chose that key.
  `CREATE TABLE IF NOT EXISTS lake.raw.x_meta_tables (
     table_name VARCHAR PRIMARY KEY, kind VARCHAR NOT NULL, business_key VARCHAR[], created_at TIMESTAMPTZ NOT NULL)`,
  `ALTER TABLE lake.raw.x_meta_tables ADD COLUMN IF NOT EXISTS key_source VARCHAR`,
  // The newest load of each table. Every load takes the next number here, which is also what makes loads of one table
  // exclude each other.
  `CREATE TABLE IF NOT EXISTS lake.raw.x_meta_table_heads (
     table_name VARCHAR PRIMARY KEY, load_number BIGINT NOT NULL, loaded_at TIMESTAMPTZ NOT NULL)`,
  // How far a step has read its source: the greatest cursor value that it has loaded.
  `CREATE TABLE IF NOT EXISTS lake.raw.x_meta_watermarks (
     reader VARCHAR NOT NULL, table_name VARCHAR NOT NULL, cursor_name VARCHAR NOT NULL, high_water VARCHAR NOT NULL,
     run_id VARCHAR NOT NULL, updated_at TIMESTAMPTZ NOT NULL, PRIMARY KEY (reader, table_name))`,
  // Each change of the columns of a table, and the columns after it.
  `CREATE TABLE IF NOT EXISTS lake.raw.x_meta_schema_changes (
     table_name VARCHAR NOT NULL, load_number BIGINT NOT NULL, run_id VARCHAR NOT NULL, step_key VARCHAR NOT NULL,
     changed_at TIMESTAMPTZ NOT NULL, changes JSON NOT NULL, columns JSON NOT NULL)`,
  // Which tables a step read for a table that it wrote (the columns are NULL), and which columns the values of a column
  // come from: 'copied' as they are, or 'computed'.
  `CREATE TABLE IF NOT EXISTS lake.raw.x_meta_lineage (
     run_id VARCHAR NOT NULL, step_key VARCHAR NOT NULL, target_table VARCHAR NOT NULL, target_column VARCHAR,
     source_table VARCHAR NOT NULL, source_column VARCHAR, relation VARCHAR NOT NULL, recorded_at TIMESTAMPTZ NOT NULL)`,
  // Each attempt of a step that ended in this process, and the runs as their steps tell them.
  `CREATE TABLE IF NOT EXISTS lake.raw.x_meta_step_logs (
     run_id VARCHAR NOT NULL, step_key VARCHAR NOT NULL, pipeline_id VARCHAR NOT NULL, trigger VARCHAR NOT NULL,
     requested_by VARCHAR NOT NULL, ps_type VARCHAR NOT NULL, cycle INTEGER NOT NULL, attempt INTEGER NOT NULL,
     fence UBIGINT NOT NULL, status VARCHAR NOT NULL, error_code VARCHAR, error_message VARCHAR, outputs JSON,
     started_at TIMESTAMPTZ NOT NULL, ended_at TIMESTAMPTZ NOT NULL, PRIMARY KEY (run_id, step_key, fence))`,
  `CREATE VIEW IF NOT EXISTS lake.raw.x_meta_pipeline_runs AS
     SELECT run_id, any_value(pipeline_id) AS pipeline_id, any_value(trigger) AS trigger,
       any_value(requested_by) AS requested_by, min(first_at) AS started_at, max(ended_at) AS ended_at,
       count(*) AS steps, count(*) FILTER (status = 'SUCCEEDED') AS steps_succeeded,
       count(*) FILTER (status = 'FAILED') AS steps_failed, sum(tries)::BIGINT AS attempts
     FROM (SELECT *, min(started_at) OVER step AS first_at, count(*) OVER step AS tries FROM lake.raw.x_meta_step_logs
       WINDOW step AS (PARTITION BY run_id, step_key)
       QUALIFY row_number() OVER (PARTITION BY run_id, step_key ORDER BY fence DESC) = 1)
     GROUP BY run_id`,
  // What a table holds by its owner's word, and why nothing may be deleted from it.
  `CREATE TABLE IF NOT EXISTS lake.raw.x_meta_table_policies (
     table_name VARCHAR PRIMARY KEY, classification VARCHAR, hold_reason VARCHAR, changed_by VARCHAR NOT NULL,
     run_id VARCHAR NOT NULL, changed_at TIMESTAMPTZ NOT NULL)`,
  // What retention deleted, in the transaction that did.
  `CREATE TABLE IF NOT EXISTS lake.raw.x_meta_retention (
     run_id VARCHAR NOT NULL, step_key VARCHAR NOT NULL, table_name VARCHAR NOT NULL, versions_deleted BIGINT NOT NULL,
     records_forgotten BIGINT NOT NULL, rows_deleted BIGINT NOT NULL, policy JSON NOT NULL, retained_at TIMESTAMPTZ NOT NULL)`,
  `CREATE TABLE IF NOT EXISTS lake.raw.x_meta_findings (
     run_id VARCHAR NOT NULL, step_key VARCHAR NOT NULL, table_name VARCHAR NOT NULL, finding VARCHAR NOT NULL,
     count BIGINT NOT NULL, found_at TIMESTAMPTZ NOT NULL)`,
]

// Columns that a table got in a later release.
function added(table: string, columns: Readonly<Record<string, string>>): string[] {
  return Object.entries(columns).map(
    ([name, type]) => `ALTER TABLE lake.raw.${table} ADD COLUMN IF NOT EXISTS ${name} ${type}`,
  )
}

/** Makes the lake's own tables when they are not there. */
export async function ensureMeta(connection: Connection): Promise<void> {
  await connection.transaction(async () => {
    for (const sql of tables) await connection.run(connection.kind === 'ducklake' ? withoutKeys(sql) : sql)
  })
  // Rows that were quarantined before they had names.
  await connection.run(
    `UPDATE lake.raw.x_meta_rejected_rows SET rejected_id = uuid()::VARCHAR, attempts = 0,
       status = CASE WHEN code = 'VALUE_DISCARDED' THEN 'value' WHEN code LIKE 'RULE_%' THEN 'flagged' ELSE 'quarantined' END
     WHERE rejected_id IS NULL`,
  )
  await widenEnvelopes(connection)
  // A process that died after a first load has left its table out.
  await refreshChangeLog(connection)
}

// A DuckLake has no keys: its writers take turns, and `upsert` keeps rows apart.
const withoutKeys = (sql: string): string => sql.replace(/,? PRIMARY KEY( \([^)]*\))?/g, '')

// A table that an earlier release made lacks the columns that the envelope got since.
async function widenEnvelopes(connection: Connection): Promise<void> {
  const old = await connection.rows(
    `SELECT t.table_name AS name, array_agg(c.column_name ORDER BY c.column_index) AS columns
     FROM lake.raw.x_meta_tables t JOIN duckdb_columns() c
       ON c.database_name = 'lake' AND c.schema_name = 'raw' AND c.table_name = t.table_name
     WHERE t.kind = 'versioned' GROUP BY 1 HAVING count(*) FILTER (c.column_name = 'load_number') = 0`,
  )
  for (const { name, columns } of old) {
    const there = (columns as string[]).map((column) => column.toLowerCase()) // a list of names by the query
    await connection.transaction(async () => {
      for (const { name: column, type } of envelope)
        if (!there.includes(column))
          await connection.run(`ALTER TABLE ${versionsOf(String(name))} ADD COLUMN ${quoted(column)} ${type}`)
      const names = new Set(envelope.map((column) => column.name))
      await refreshViews(
        connection,
        String(name),
        (columns as string[]).filter((column) => !names.has(column.toLowerCase())),
      )
    })
  }
}

/**
 * Makes `x_meta_change_log` anew: every version of every versioned table, with the hash before and after. It is the one
 * view that all loads share, so it is made outside of their transactions: two first loads would exclude each other.
 */
export async function refreshChangeLog(connection: Connection): Promise<void> {
  for (let attempt = 1; ; attempt++)
    try {
      return await replaceChangeLog(connection)
    } catch (error) {
      const isRace = error instanceof AppError && error.code === 'CONFLICT'
      if (!isRace || attempt === 20) throw error
    }
}

// The names are read where they are used: of two that begin at once, the one that is through later knows of both tables.
const replaceChangeLog = (connection: Connection): Promise<void> =>
  connection.transaction(async () => {
    const versioned = await connection.rows(
      `SELECT table_name FROM lake.raw.x_meta_tables WHERE kind = 'versioned' ORDER BY table_name`,
    )
    const parts = versioned.map((row) => changesOf(String(row['table_name'])))
    const body = parts.length > 0 ? parts.join(' UNION ALL ') : `SELECT * FROM (${emptyLog}) WHERE false`
    await connection.run(`CREATE OR REPLACE VIEW lake.raw.x_meta_change_log AS ${body}`)
  })

const emptyLog = `SELECT ''::VARCHAR AS table_name, ''::VARCHAR AS org_id, ''::VARCHAR AS composite_key, 0 AS old_version,
  0 AS new_version, ''::VARCHAR AS change_type, NULL::VARCHAR[] AS changed_fields, ''::VARCHAR AS changed_by_user_id,
  now() AS changed_at, ''::VARCHAR AS old_data_hash, ''::VARCHAR AS new_data_hash, ''::VARCHAR AS source_file, ''::VARCHAR AS run_id`

function changesOf(table: string): string {
  return `SELECT ${literal(table)} AS table_name, org_id, composite_key, previous_version AS old_version,
    version AS new_version, change_type, changed_fields, changed_by_user_id, last_modified AS changed_at,
    lag(data_hash) OVER (PARTITION BY composite_key ORDER BY version) AS old_data_hash, data_hash AS new_data_hash,
    source_file, run_id FROM ${versionsOf(table)}`
}

/** Makes what reads a versioned table anew: the views of its current rows, with all columns and with those of the business alone, and the macros of its past. */
export async function refreshViews(connection: Connection, table: string, businessColumns: string[]): Promise<void> {
  const current = `${versionsOf(table)} WHERE is_current AND NOT is_deleted`
  await connection.run(`CREATE OR REPLACE VIEW lake.raw.${quoted(`${table}_current`)} AS SELECT * FROM ${current}`)
  await connection.run(
    `CREATE OR REPLACE VIEW lake.main.${quoted(table)} AS SELECT ${businessColumns.map(quoted).join(', ')} FROM ${current}`,
  )
  await createAsOf(connection, table, businessColumns)
}
