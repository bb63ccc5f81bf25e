import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { migrationsFolder } from '../../standalone/ports.ts'
import { overPglite } from '../../standalone/pglite.ts'

/** Where the tests of a run find the cluster that `memoryDatabase` begins with. */
export const templateVariable = 'TRIBUTARY_TEST_CLUSTER'

/**
 * Makes one migrated cluster for all test files of a run, before the first: each would take two seconds of a processor to
 * make its own, and takes 0.4 to load this one.
 */
export async function setup(): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'template-'))
  const client = await PGlite.create()
  const { close } = await overPglite(client, migrationsFolder)
  const dump = await client.dumpDataDir('none')
  await close()
  const file = join(folder, 'cluster.tar')
  await writeFile(file, dump.stream())
  process.env[templateVariable] = file
  return () => rm(folder, { recursive: true, force: true })
}
