import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

// The edge's tools weigh more than the product, so they are installed here, from a lockfile of their own, when asked for.
const here = dirname(fileURLToPath(import.meta.url))
const root = join(here, '..', '..')
if (!existsSync(join(here, 'node_modules', 'miniflare'))) {
  execFileSync('npm', ['install', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: here, stdio: 'inherit' })
}
const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs')
process.exitCode =
  spawnSync(process.execPath, [vitest, 'run', '--project', 'edge'], { cwd: root, stdio: 'inherit' }).status ?? 1
