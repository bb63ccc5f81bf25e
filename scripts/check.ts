import { spawn } from 'node:child_process'
import { join } from 'node:path'

/** Everything that must hold before a commit, apart from the tests: prints each with its seconds, fails with any. */
const checks: Readonly<Record<string, readonly string[]>> = {
  format: ['oxfmt', '--check', '.'],
  lint: ['oxlint', '.'],
  'types, edge': ['tsc', '-p', 'tsconfig.edge.json'],
  'types, node': ['tsc', '-p', 'tsconfig.node.json'],
  generated: ['node', 'scripts/generate.ts', '--check'],
  contract: ['node', 'scripts/contract.ts'],
  walls: ['node', 'scripts/walls.ts'],
  tables: ['node', 'scripts/tables.ts'],
  descriptions: ['node', 'scripts/descriptions.ts'],
}

const root = join(import.meta.dirname, '..')
const started = performance.now()
const results = await Promise.all(Object.entries(checks).map(([name, command]) => check(name, command)))
const failed = results.filter((ok) => !ok).length
console.log(`${failed === 0 ? 'all checks hold' : `${failed} of ${results.length} checks failed`}, ${seconds(started)}`)
process.exitCode = failed === 0 ? 0 : 1

// Output is kept until the check ends, so that those of two checks do not mix.
function check(name: string, [command = '', ...args]: readonly string[]): Promise<boolean> {
  const begun = performance.now()
  const program = command === 'node' ? process.execPath : join(root, 'node_modules', '.bin', command)
  const child = spawn(program, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
  return new Promise((resolve) => {
    const end = (ok: boolean): void => {
      console.log(`${ok ? 'ok  ' : 'FAIL'} ${name.padEnd(12)} ${seconds(begun)}`)
      const shown = ok ? output.split('\n').filter((line) => line.startsWith('RESULT ')) : [output.trimEnd()]
      for (const line of shown) console.log(line)
      resolve(ok)
    }
    child.on('error', (error) => {
      output += error.message
      end(false)
    })
    child.on('close', (code) => end(code === 0))
  })
}

function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`
}
