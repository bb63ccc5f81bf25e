import { z } from 'zod'
import { defineProcessor } from '../../define.ts'
import { destination } from '../../lake/destination.ts'
import bigquery from '../../sources/bigquery.ts'
import { loadQuery } from '../../sources/load-query.ts'

/** Reads the result of a BigQuery query, such as a day of the billing export, into a table of the lake. */
export default defineProcessor({
  type: 'gcp.bq_etl',
  title: 'Ingest from BigQuery',
  description: 'Runs a query in BigQuery, read-only, and loads its rows into a table.',
  queue: 'ingest',
  settings: z.strictObject({
    source: z.strictObject({
      query: z
        .string()
        .min(1)
        .meta({ 'x-sql': 'bigquery' })
        .describe("One SELECT in GoogleSQL. A table without a dataset is looked for in the credential's dataset."),
    }),
    destination: destination.extend({
      mode: z
        .enum(['versioned', 'append', 'replace'])
        .optional()
        .describe(
          'Default: versioned when business_key is given, else replace: the table holds what the last run read, so that running a day again doubles nothing.',
        ),
    }),
  }),
  credentialProviders: [bigquery.provider],
  run(ctx, { source, destination }) {
    const mode = destination.mode ?? (destination.business_key.length > 0 ? 'versioned' : 'replace')
    return loadQuery(ctx, {
      source: bigquery,
      query: source.query,
      cursor: undefined,
      destination: { ...destination, mode },
    })
  },
})
