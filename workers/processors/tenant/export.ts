import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { AppError } from '../../../shared/errors.ts'
import { defineProcessor, type StepContext, type StepResult } from '../../define.ts'
import { hashFile } from '../../delivery/hash-file.ts'
import { literal, plainOf, versionsOf } from '../../lake/names.ts'
import { exportFolder } from '../../sweep-exports.ts'

/**
 * `tenant.export`: every table of the lake as a Parquet file, versioned ones with all their versions, and a manifest with
 * rows, bytes and SHA-256 of each. A repeat writes all anew. Refused in every run but that of offboarding.
 */
export default defineProcessor({
  type: 'tenant.export',
  title: 'Export the tenant’s tables',
  description: 'Writes every table of a tenant that leaves as Parquet, with a manifest. Only offboarding can run it.',
  queue: 'export',
  settings: z.strictObject({}),
  credentialProviders: [],
  writes: false,
  run: exportTables,
})

type Exported = { table: string; kind: string; file: string; rows: number; bytes: number; sha256: string }

async function exportTables(ctx: StepContext): Promise<StepResult> {
  if (ctx.run.trigger !== 'offboard')
    throw new AppError('CONFIG_INVALID', 'Only the offboarding of a tenant exports all its tables.', {
      hint: 'Export what you need with file.export.',
    })
  const folder = await ctx.files.resolve(exportFolder)
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true, mode: 0o700 })
  using connection = await ctx.lake.connect(ctx.signal)
  const tables = await connection.rows(
    'SELECT table_name AS name, kind FROM lake.raw.x_meta_tables ORDER BY table_name',
  )
  const exported: Exported[] = []
  for (const { name, kind } of tables) {
    const table = String(name)
    const path = join(folder, `${table}.parquet`)
    const relation = kind === 'versioned' ? versionsOf(table) : plainOf(table)
    const rows = await connection.run(
      `COPY (SELECT * FROM ${relation}) TO ${literal(path)} (FORMAT parquet, COMPRESSION zstd)`,
    )
    const digest = await hashFile(path, ctx.signal)
    exported.push({ table, kind: String(kind), file: `${table}.parquet`, rows, ...digest })
    ctx.progress({ done: exported.length, total: tables.length, unit: 'files', note: table })
  }
  const manifest = { tenant: ctx.tenant.id, run: ctx.run.id, tables: exported }
  await writeFile(join(folder, 'manifest.json'), `${JSON.stringify(manifest, null, 1)}\n`, { mode: 0o600 })
  return {
    outputs: {
      tables: exported.length,
      rows: exported.reduce((sum, { rows }) => sum + rows, 0),
      bytes: exported.reduce((sum, { bytes }) => sum + bytes, 0),
    },
  }
}
