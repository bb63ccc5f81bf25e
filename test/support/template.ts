import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { migrationsFolder } from '../../standalone/ports.ts'
import { overPglite } from '../../standalone/pglite.ts'

/** The folder in which the tests of a run find the cluster that they begin with: `cluster.tar`, and the same as a folder. */
export const templateVariable = 'TRIBUTARY_TEST_CLUSTER'

/**
 * Makes one migrated cluster for all test files of a run, before the first: each would take two seconds of a processor to
 * make its own, and takes 0.4 to load this one.
 */
export async function setup(): Promise<() => Promise<void>> {
  // Each project of a run sets up, and one cluster does for all.
  if (process.env[templateVariable] !== undefined) return async () => undefined
  const folder = await mkdtemp(join(tmpdir(), 'template-'))
  const client = await PGlite.create(join(folder, 'cluster'))
  const { close } = await overPglite(client, migrationsFolder)
  const dump = await client.dumpDataDir('none')
  await close()
  await writeFile(join(folder, 'cluster.tar'), dump.stream())
  process.env[templateVariable] = folder
  return () => rm(folder, { recursive: true, force: true })
}

/** Puts the cluster into a folder of the embedded mode; nothing in a run without one. */
export async function putCluster(dataDir: string): Promise<void> {
  const folder = process.env[templateVariable]
  if (folder !== undefined) await cp(join(folder, 'cluster'), join(dataDir, 'postgres'), { recursive: true })
}
