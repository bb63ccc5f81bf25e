import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

// What the ledger is measured beside is no part of the product, so it is installed here, from a lockfile of its own, when
// asked for.
const here = import.meta.dirname
if (!existsSync(join(here, 'node_modules', 'pg-boss')))
  execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: here, stdio: 'inherit' })
process.exitCode =
  spawnSync(process.execPath, [join(here, 'main.ts'), ...process.argv.slice(2)], { stdio: 'inherit' }).status ?? 1
