import { z } from 'zod'
import type { Catalog, CatalogEntry } from '../../../shared/config/catalog.ts'

const sql = z.string().min(1).meta({ 'x-sql': true })

/** A small catalog, so that tests of the format do not change with the processors. */
export const sampleCatalog: Catalog = [
  entry('db.load', 'ingest', {
    engine: z.enum(['auto', 'fast']).default('auto'),
    source: z.strictObject({ query: sql, cursor: z.string().optional() }),
    destination: z.strictObject({
      table: z.string().min(1),
      mode: z.enum(['append', 'versioned']).default('append'),
      batch_rows: z.int().min(1).max(1_000_000).optional(),
      business_key: z.array(z.string()).optional(),
    }),
  }),
  entry('file.export', 'export', {
    source: z.strictObject({ query: sql }),
    destination: z.strictObject({
      path: z.string(),
      header: z.boolean().default(true),
      split_rows: z.int().min(1).optional(),
    }),
  }),
  entry('notify_systems.email_notification', 'delivery', {
    to_emails: z.array(z.email()).min(1),
    subject: z.string().optional(),
    body: z.string().optional(),
  }),
  entry('quality.check', 'transform', {
    table: z.string(),
    rules: z
      .array(
        z.discriminatedUnion('rule', [
          z.strictObject({ rule: z.literal('not_null'), column: z.string() }),
          z.strictObject({ rule: z.literal('range'), column: z.string(), min: z.number().optional() }),
          z.strictObject({ rule: z.literal('sql'), where: sql }),
        ]),
      )
      .min(1),
    limit: z.union([z.number(), z.literal('all')]).optional(),
  }),
]

function entry(type: string, queue: CatalogEntry['queue'], settings: z.core.$ZodShape): CatalogEntry {
  const schema: Record<string, unknown> = z.toJSONSchema(z.strictObject(settings), { io: 'input' })
  return { type, title: type, description: type, queue, credentialProviders: [], settings: schema }
}
