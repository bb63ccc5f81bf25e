import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { Store } from '../../workers/lake/attach.ts'

/**
 * Where the lake of a test stands: in a DuckDB file below `folder`, or in a DuckLake when the environment names its catalog
 * (`TEST_LAKE_CATALOG`, a PostgreSQL URL), encrypted as the product makes it. The same folder is the same lake, in every process.
 */
export function lakeStore(folder: string): Store {
  const file = join(folder, 'lake.duckdb')
  const catalog = process.env['TEST_LAKE_CATALOG']
  if (!catalog) return { file }
  const schema = `lake_${createHash('sha256').update(folder).digest('hex').slice(0, 16)}`
  const extensions = process.env['TEST_LAKE_EXTENSIONS']
  return { file, extensions, ducklake: { catalog, schema, data: join(folder, 'lake'), encrypted: true } }
}
