import { findTable } from './catalog.ts'
import type { Connection } from './connection.ts'
import { literal, versionsOf } from './names.ts'

/** Something in the lake that cannot come from loads: how often, and in which table. */
export type Finding = { table: string; finding: string; count: number }

// Keys with two rows of one version, with a version missing between two others, with none or several current versions or
// one that is not the newest; changes whose earlier version is another; rows that no receipt knows.
const checksOfVersions: Readonly<Record<string, (versions: string, table: string) => string>> = {
  duplicate_versions: (versions) =>
    `SELECT count(*) FROM (SELECT 1 FROM ${versions} GROUP BY org_id, composite_key, version HAVING count(*) > 1)`,
  version_gaps: (versions) =>
    `SELECT count(*) FROM (SELECT 1 FROM ${versions} GROUP BY org_id, composite_key
       HAVING max(version) - min(version) + 1 > count(DISTINCT version))`,
  current_versions: (versions) =>
    `SELECT count(*) FROM (SELECT 1 FROM ${versions} GROUP BY org_id, composite_key
       HAVING count(*) FILTER (is_current) <> 1 OR max(version) FILTER (is_current) <> max(version))`,
  orphaned_changes: (versions) =>
    `SELECT count(*) FROM (SELECT previous_version, version, lag(version) OVER w AS before, min(version) OVER w AS first
       FROM ${versions} WINDOW w AS (PARTITION BY org_id, composite_key ORDER BY version))
     WHERE version > first AND previous_version IS DISTINCT FROM before`,
  rows_without_receipt: (versions, table) =>
    `SELECT count(*) FROM ${versions} v WHERE run_id IS NOT NULL AND NOT EXISTS (
       SELECT 1 FROM lake.raw.x_meta_load_receipts r
       WHERE r.run_id = v.run_id AND r.step_key = v.step_key AND r.table_name = ${literal(table)})`,
  // What loads wrote, less what retention deleted, is what is there; rows of before there were receipts do not count.
  rows_against_receipts: (versions, table) =>
    `SELECT abs((SELECT count(*) FROM ${versions} WHERE run_id IS NOT NULL)
       - (SELECT coalesce(sum((counts->>'$.inserted')::BIGINT + (counts->>'$.updated')::BIGINT + (counts->>'$.deleted')::BIGINT), 0)
          FROM lake.raw.x_meta_load_receipts r WHERE table_name = ${literal(table)} AND NOT EXISTS (
            SELECT 1 FROM lake.raw.x_meta_retention t WHERE t.run_id = r.run_id AND t.step_key = r.step_key))
       + (SELECT coalesce(sum(versions_deleted), 0) FROM lake.raw.x_meta_retention WHERE table_name = ${literal(table)}))`,
}

// Receipts and steps that do not fit together, in runs whose steps are written down. `$1` is the run that looks; a step
// that still runs may have loaded already, hence the hour.
const checksOfRuns: Readonly<Record<string, string>> = {
  receipts_without_step: `SELECT table_name AS t, count(*)::BIGINT AS n FROM lake.raw.x_meta_load_receipts r
    WHERE run_id <> $1 AND completed_at < now() - INTERVAL 1 hour
      AND completed_at > (SELECT min(started_at) FROM lake.raw.x_meta_step_logs)
      AND NOT EXISTS (SELECT 1 FROM lake.raw.x_meta_step_logs l WHERE l.run_id = r.run_id
        AND (r.step_key = l.step_key OR starts_with(r.step_key, l.step_key || '/')))
    GROUP BY 1`,
  steps_without_receipt: `SELECT outputs->>'$.table' AS t, count(*)::BIGINT AS n FROM lake.raw.x_meta_step_logs l
    WHERE run_id <> $1 AND status = 'SUCCEEDED' AND ps_type IN ('file.ingest', 'db.ingest', 'gcp.bq_etl')
      AND (outputs->>'$.load')::BIGINT > 0
      AND NOT EXISTS (SELECT 1 FROM lake.raw.x_meta_load_receipts r WHERE r.run_id = l.run_id AND r.step_key = l.step_key)
    GROUP BY 1`,
}

/**
 * Looks for what cannot be right: in one versioned table, or in all and in their receipts. `runId` is the run that looks,
 * whose own steps are not all written down yet. Only what was found is given, sorted by table.
 */
export async function findFaults(connection: Connection, runId: string, only?: string): Promise<Finding[]> {
  const tables = await connection.rows(
    `SELECT table_name AS name FROM lake.raw.x_meta_tables WHERE kind = 'versioned' ORDER BY 1`,
  )
  const findings: Finding[] = []
  for (const { name } of tables) {
    const table = String(name)
    if ((only !== undefined && only !== table) || !(await findTable(connection, table))) continue
    const parts = Object.entries(checksOfVersions).map(
      ([finding, sql]) => `SELECT ${literal(finding)} AS finding, (${sql(versionsOf(table), table)})::BIGINT AS n`,
    )
    for (const row of await connection.rows(`SELECT * FROM (${parts.join(' UNION ALL ')}) WHERE n > 0`))
      findings.push({ table, finding: String(row['finding']), count: Number(row['n']) })
  }
  for (const [finding, sql] of Object.entries(checksOfRuns))
    for (const row of await connection.rows(sql, [runId]))
      if (only === undefined || only === row['t'])
        findings.push({ table: String(row['t']), finding, count: Number(row['n']) })
  return findings.sort((a, b) => (a.table < b.table ? -1 : a.table > b.table ? 1 : 0))
}
