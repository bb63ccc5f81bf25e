import { AppError } from '../../shared/errors.ts'
import { describeError } from '../../shared/log.ts'
import { liveSecrets } from '../../shared/redact.ts'
import { within } from '../../shared/within.ts'
import { clock } from './clock.ts'
import { database } from './database.ts'
import { environment } from './environment.ts'
import { type Check, fail, type Finding } from './finding.ts'
import { folder } from './folder.ts'
import type { House } from './house.ts'
import { lake } from './lake.ts'
import { mail } from './mail.ts'
import { migrations } from './migrations.ts'
import { platformKeys } from './platform-keys.ts'
import { processes } from './processes.ts'
import { qstash } from './qstash.ts'
import { reader } from './reader.ts'
import { redis } from './redis.ts'
import { roles } from './roles.ts'
import { rowSecurity } from './row-security.ts'
import { work } from './work.ts'

/** A finding with the check that made it. */
export type Diagnosis = { check: string } & Finding

/** All checks, in the order in which their findings are told. */
export const checks: readonly Check[] = [
  environment,
  database,
  migrations,
  roles,
  rowSecurity,
  clock,
  platformKeys,
  work,
  reader,
  qstash,
  redis,
  folder,
  lake,
  processes,
  mail,
]

const patienceMs = 15_000

/**
 * Looks at every part that the deployment has, each for 15 s at most, and answers all that was found. Nothing is changed,
 * and no text holds a secret of the environment.
 */
export async function diagnose(house: House, among: readonly Check[] = checks, ms = patienceMs): Promise<Diagnosis[]> {
  const found = await Promise.all(
    among
      .filter((check) => check.concerns(house))
      .map(async (check) => (await lookAt(check, house, ms)).map((finding) => ({ check: check.name, ...finding }))),
  )
  return liveSecrets.data(found.flat().map(withoutSecrets))
}

async function lookAt(check: Check, house: House, ms: number): Promise<readonly Finding[]> {
  const over = new AbortController()
  const timer = setTimeout(() => over.abort(), ms)
  try {
    const found = await within(check.look(house, over.signal), ms + 500, check.name)
    return 'state' in found ? [found] : found
  } catch (error) {
    if (over.signal.aborted)
      return [fail(`It gave no answer within ${ms / 1000} s.`, 'See that it can be reached from this machine.')]
    const todo = error instanceof AppError ? error.hint : 'Report this with the version of the product.'
    return [fail(`It could not be looked at: ${describeError(error)}`, todo)]
  } finally {
    clearTimeout(timer)
  }
}

const withoutSecrets = (one: Diagnosis): Diagnosis => ({
  ...one,
  says: liveSecrets.text(one.says),
  ...('todo' in one ? { todo: liveSecrets.text(one.todo) } : {}),
})
