import { z } from 'zod'
import { AppError } from '../../../shared/errors.ts'
import { defineProcessor } from '../../define.ts'
import { destination } from '../../lake/destination.ts'
import { sources } from '../../sources/index.ts'
import { loadQuery } from '../../sources/load-query.ts'

const providers = sources.map((source) => source.provider)

/** Reads the result of a query of another database into a table of the lake. */
export default defineProcessor({
  type: 'db.ingest',
  title: 'Ingest from a database',
  description: 'Runs a query in the database of a credential, read-only, and loads its rows into a table.',
  queue: 'ingest',
  settings: z.strictObject({
    source: z.strictObject({
      provider: z.enum(providers).default('postgres').describe('The kind of database that the credential is for.'),
      query: z.string().min(1).meta({ 'x-sql': true }).describe('One SELECT in the SQL of that database.'),
      cursor: z
        .string()
        .min(1)
        .optional()
        .describe(
          'A column that grows with each change: of rows with the same key the one with the greatest value counts.',
        ),
      resume: z
        .boolean()
        .default(false)
        .describe(
          'Read only rows whose cursor has reached the greatest value that this step has loaded; the first run reads all. The mark is kept with the rows. Fits snapshot: delta and mode: append.',
        ),
    }),
    destination,
  }),
  credentialProviders: providers,
  async run(ctx, settings) {
    const { provider, query, cursor, resume } = settings.source
    const source = sources.find((source) => source.provider === provider)
    if (!source) throw new AppError('CONFIG_INVALID', `There is no source ${provider}.`)
    return loadQuery(ctx, { source, query, cursor, resume, destination: settings.destination })
  },
})
