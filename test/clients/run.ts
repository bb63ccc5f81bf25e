import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

// Clients of others, and the graphql that they want, are installed here, from a lockfile of their own, when asked for.
const here = import.meta.dirname
const root = join(here, '..', '..')
if (!existsSync(join(here, 'node_modules', 'graphql-sse')))
  execFileSync('npm', ['install', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: here, stdio: 'inherit' })
const run = (script: string, ...args: string[]): number =>
  spawnSync(process.execPath, [join(root, 'node_modules', script), ...args], { cwd: root, stdio: 'inherit' }).status ??
  1
process.exitCode =
  run('typescript/bin/tsc', '-p', join(here, 'tsconfig.json')) ||
  run('vitest/vitest.mjs', 'run', '--project', 'clients')
