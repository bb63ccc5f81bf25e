import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

// The linters of images and manifests are installed here, from a lockfile of their own, when asked for.
const here = import.meta.dirname
const root = join(here, '..', '..')
if (!existsSync(join(here, 'node_modules', 'dclint')))
  execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: here, stdio: 'inherit' })
process.exitCode =
  spawnSync(process.execPath, [join(root, 'node_modules/vitest/vitest.mjs'), 'run', '--project', 'deploy'], {
    cwd: root,
    stdio: 'inherit',
  }).status ?? 1
