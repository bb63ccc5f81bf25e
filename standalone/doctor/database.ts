import { AppError } from '../../shared/errors.ts'
import { describeError } from '../../shared/log.ts'
import { type Facts, factsOf } from './facts.ts'
import { type Check, fail, type Finding, ok, skipped, warn } from './finding.ts'
import type { House } from './house.ts'

/** The database answers, is new enough, and is not spoken to in the clear over a network. */
export const database: Check = {
  name: 'database',
  concerns: () => true,
  async look(house) {
    try {
      const db = await house.database()
      if (!db)
        return house.part === 'embedded'
          ? skipped('There is none yet: npm start makes it.')
          : fail('There is no address of one.', 'Set DATABASE_URL.')
      const facts = await factsOf(db)
      return facts ? foundOf(house, facts) : fail('It gives no answer.', 'Check DATABASE_URL.')
    } catch (error) {
      if (error instanceof AppError && error.code === 'CONFLICT') return warn(error.message, error.hint)
      const why = describeError(error).split(' <- ').at(-1) ?? ''
      return fail(`It cannot be asked: ${why}`, todoFor(why))
    }
  },
}

function foundOf({ part, databaseUrl }: House, { version, shown, encrypted }: Facts): Finding[] {
  const name = `PostgreSQL ${shown.split(' ')[0] ?? ''}`
  if (version < 150_000) return [fail(`${name} is older than 15.`, 'Use PostgreSQL 15 or newer.')]
  return [
    ok(`${name}${part === 'embedded' ? ', embedded' : ''}.`),
    ...(databaseUrl !== undefined && encrypted === false && !isHere(databaseUrl)
      ? [warn('The connection to another host is not encrypted.', 'End DATABASE_URL with ?sslmode=verify-full.')]
      : []),
  ]
}

const isHere = (url: string): boolean => {
  const { hostname } = new URL(url)
  return hostname === '' || /^(localhost|127\.\d+\.\d+\.\d+|\[::1\]|%2f.*)$/i.test(hostname)
}

const todos: readonly (readonly [RegExp, string])[] = [
  [/ECONNREFUSED|ENOENT/, 'Start the server, or correct host and port in DATABASE_URL.'],
  [/ENOTFOUND|EAI_AGAIN/, 'Correct the host in DATABASE_URL.'],
  [/ETIMEDOUT|timeout/i, 'Let this machine through to the server: firewall, network, port.'],
  [/password|authentication|SASL/i, 'Correct user and password in DATABASE_URL.'],
  [/database ".*" does not exist/, 'Create the database: create database <name> owner <owner>.'],
  [/role ".*" does not exist/, "Make the login: create role <name> login noinherit password '...'."],
  [/pg_hba/, 'Let this machine in: a line in pg_hba.conf.'],
  [/SSL|certificate/i, 'Set sslmode in DATABASE_URL as the server wants it, and give its certificate authority.'],
  [/startup parameter/, 'Connect directly or through a pool in session mode, not in transaction mode.'],
  [/too many|remaining connection/i, 'Allow more connections: max_connections, or end those that nobody needs.'],
]

const todoFor = (why: string): string =>
  todos.find(([form]) => form.test(why))?.[1] ?? 'Check DATABASE_URL and the log of the server.'
