import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { copyFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { startPostgres } from '../support/postgres.ts'

// The tests of the lake, on a DuckLake: with a PostgreSQL server of this machine, and with DuckDB's extensions from the
// folder in LAKE_EXTENSIONS or from PyPI. Those load into their own version of the engine only, hence one of this folder.
const here = import.meta.dirname
const root = join(here, '..', '..')
const names = ['ducklake', 'httpfs', 'postgres_scanner']
const server = await startPostgres()
const given = process.env['LAKE_EXTENSIONS'] || undefined
const extensions = given ?? (await fetched())
if ('skipped' in server) console.log(`left out: ${server.skipped}`)
else {
  if (extensions === undefined) console.log("left out: DuckDB's extensions can neither be found nor installed")
  else process.exitCode = runTests(server.url, extensions)
  await server.stop()
}

function runTests(catalog: string, extensions: string): number {
  const env: NodeJS.ProcessEnv = { ...process.env, TEST_LAKE_CATALOG: catalog, TEST_LAKE_EXTENSIONS: extensions }
  if (given === undefined) env['NODE_OPTIONS'] = `--import=${pathToFileURL(join(here, 'engine.mjs')).href}`
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs')
  const args = [vitest, 'run', '--project', 'ducklake', ...process.argv.slice(2)]
  return spawnSync(process.execPath, args, { cwd: root, env, stdio: 'inherit' }).status ?? 1
}

// The engine by npm and its extensions by pip, each from a lockfile; undefined where either is out of reach.
async function fetched(): Promise<string | undefined> {
  const wheels = join(here, 'node_modules', '.extensions')
  try {
    if (!existsSync(join(here, 'node_modules', '@duckdb')))
      execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: here, stdio: 'inherit' })
    if (!existsSync(join(wheels, 'found'))) {
      const options = [
        '--quiet',
        '--no-deps',
        '--only-binary=:all:',
        '--require-hashes',
        '--target',
        join(wheels, 'pip'),
      ]
      execFileSync('python3', ['-m', 'pip', 'install', ...options, '-r', join(here, 'requirements.txt')])
      for (const name of names)
        await arrange(join(wheels, 'pip', `duckdb_extension_${name}`, 'extensions'), wheels, name)
    }
    return join(wheels, 'found')
  } catch (error) {
    console.log(error instanceof Error ? error.message : error)
    return undefined
  }
}

// From the wheel's layout to that of the engine's own folder.
async function arrange(from: string, wheels: string, name: string): Promise<void> {
  const [version = ''] = readdirSync(from)
  const folder = join(
    wheels,
    'found',
    version,
    `${process.platform === 'darwin' ? 'osx' : process.platform}_${process.arch === 'x64' ? 'amd64' : process.arch}`,
  )
  await mkdir(folder, { recursive: true })
  await copyFile(join(from, version, `${name}.duckdb_extension`), join(folder, `${name}.duckdb_extension`))
}
