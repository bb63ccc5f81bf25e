import { isIP } from 'node:net'
import pg from 'pg'
import { to as copyTo } from 'pg-copy-streams'
import type { z } from 'zod'
import { postgresShape } from '../../schema/config/credentials.ts'
import { AppError } from '../../shared/errors.ts'
import { abortedError, throwIfAborted } from '../aborted.ts'
import { type BoundSql, type Column, defineSource, type Extract, type StepContext } from '../define.ts'
import { resolveTarget } from '../egress.ts'
import { chunkFiles } from './chunk-files.ts'
import { inlineValues } from './inline-values.ts'
import { postgresError } from './postgres-error.ts'
import { postgresType } from './postgres-type.ts'

type Secret = z.output<typeof postgresShape>

const connectTimeoutMs = 15_000
// The step's own timeout ends a read earlier; this is for a server that is never told.
const statementTimeoutMs = 6 * 60 * 60 * 1000

/** PostgreSQL, read by COPY in a read-only transaction. */
export default defineSource({
  provider: 'postgres',
  title: 'PostgreSQL',
  dialect: 'standard',
  secret: postgresShape,
  async check(ctx, secret) {
    const session = await connect(ctx, secret)
    try {
      await session.client.query('SELECT 1')
    } catch (error) {
      throw postgresError(error, ctx.signal)
    } finally {
      session.close()
    }
  },
  async read(ctx, secret, query): Promise<Extract> {
    const session = await connect(ctx, secret)
    try {
      await begin(session.client)
      const columns = await describe(session.client, query)
      for (const column of columns) if (column.note) ctx.log('info', `${column.name}: ${column.note}`)
      return {
        columns: columns.map(({ name, type }) => ({ name, type })),
        rowsTotal: null,
        files: readFiles(session, ctx, query),
      }
    } catch (error) {
      session.close()
      throw postgresError(error, ctx.signal)
    }
  },
})

type Session = { client: pg.Client; close(): void }

async function connect(ctx: Pick<StepContext, 'signal' | 'allowPrivateNetwork'>, secret: Secret): Promise<Session> {
  const { host, port, database, user, password, ssl } = secret
  const target = await resolveTarget({ host, port, allowPrivate: ctx.allowPrivateNetwork, signal: ctx.signal })
  const client = new pg.Client({
    host: target.address,
    port,
    database,
    user,
    password,
    ssl: ssl === false ? false : { rejectUnauthorized: ssl === 'verify', ...(isIP(host) ? {} : { servername: host }) },
    connectionTimeoutMillis: connectTimeoutMs,
    statement_timeout: statementTimeoutMs,
    application_name: 'tributary',
    keepAlive: true,
  })
  // Without a listener, an error between two queries would end the process; the next query reports it.
  client.on('error', () => {})
  // A query cannot be taken back over its own connection, so the connection goes: the server sees it within seconds.
  const close = (): void => {
    ctx.signal.removeEventListener('abort', close)
    client.connection.stream.destroy()
  }
  ctx.signal.addEventListener('abort', close, { once: true })
  try {
    throwIfAborted(ctx.signal)
    await client.connect()
    return { client, close }
  } catch (error) {
    close()
    throw postgresError(error, ctx.signal, { isConnecting: true })
  }
}

async function begin(client: pg.Client): Promise<void> {
  // Makes a server of version 14 or later notice a reader that is gone in the middle of a long query.
  await client.query(`SET client_connection_check_interval = '2s'`).catch(() => {})
  await client.query(`SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres';
    SET bytea_output = 'hex'; SET client_encoding = 'UTF8'; SET extra_float_digits = 3`)
  await client.query('BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY')
}

async function describe(client: pg.Client, query: BoundSql): Promise<(Column & { note?: string })[]> {
  // The extended protocol takes one statement only, and the brackets take nothing but a query.
  const described = await client.query({
    text: `SELECT * FROM (\n${withoutEnd(query.text)}\n) AS tributary_source LIMIT 0`,
    values: [...query.values],
    queryMode: 'extended',
  } as pg.QueryConfig) // the published types do not know queryMode
  const seen = new Set<string>()
  return described.fields.map((field) => {
    const name = field.name.toLowerCase()
    if (seen.has(name) || name === '?column?')
      throw new AppError(
        'SQL_INVALID',
        `The query has two columns with the name ${JSON.stringify(field.name)}, or one without.`,
      )
    seen.add(name)
    return { name: field.name, ...postgresType(field.dataTypeID, field.dataTypeModifier) }
  })
}

async function* readFiles(
  session: Session,
  ctx: Pick<StepContext, 'signal' | 'workDir'>,
  query: BoundSql,
): AsyncGenerator<{ path: string; bytes: number }> {
  try {
    // COPY takes no parameters.
    const text = inlineValues(withoutEnd(query.text), query.values, (value) => session.client.escapeLiteral(value))
    const rows = session.client.query(copyTo(`COPY (\n${text}\n) TO STDOUT (FORMAT csv)`, { highWaterMark: 4 << 20 }))
    yield* chunkFiles(rows, ctx.workDir)
    await session.client.query('COMMIT')
  } catch (error) {
    if (ctx.signal.aborted) throw abortedError(ctx.signal)
    throw postgresError(error, ctx.signal)
  } finally {
    session.close()
  }
}

const withoutEnd = (text: string): string => text.replace(/[\s;]+$/, '')
