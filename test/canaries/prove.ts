import { spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { result } from '../../bench/result.ts'
import { sweep } from './sweep.ts'

// npm run prove:canaries: runs the whole test suite, keeps all that it leaves, and looks for secrets and rows in it.
// Arguments go to vitest: `npm run prove:canaries -- test/stories`.
const vitest = fileURLToPath(new URL('../../node_modules/vitest/vitest.mjs', import.meta.url))
const given = process.argv.slice(2)
const isWhole = given.length === 0

const folder = await mkdtemp(join(tmpdir(), 'canaries-'))
const left = join(folder, 'left')
await mkdir(left)
const failed = await runTests()
const { leaks, files, bytes, allowed } = await sweep(folder)
for (const leak of leaks) console.error(`FOUND ${leak}`)
const isMet = [
  failed === 0,
  result('canaries.found-where-they-must-not-be', leaks.length, 'places', { op: '<=', value: 0 }),
  // A sweep over nothing finds nothing.
  result('canaries.files-swept', files, 'files', isWhole ? { op: '>=', value: 100 } : undefined),
  result('canaries.megabytes-swept', bytes / 1e6, 'MB'),
  result('canaries.found-where-they-belong', allowed, 'places', isWhole ? { op: '>=', value: 10 } : undefined),
]
if (isMet.every(Boolean)) await rm(folder, { recursive: true })
else console.error(`kept in ${folder}`)
if (failed !== 0) console.error(`the tests ended with ${failed}`)
process.exitCode = isMet.every(Boolean) ? 0 : 1

// What the tests print is swept as well, with the logs of what they start.
function runTests(): Promise<number> {
  const output = createWriteStream(join(folder, 'output.txt'))
  const args = [vitest, 'run', '--project', 'unit', '--project', 'stories', ...given]
  const env = { ...process.env, CANARY_DIR: folder, TMPDIR: left, TEST_LOG: 'info' }
  const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  child.stdout.on('data', (chunk: Buffer) => process.stdout.write(chunk))
  child.stdout.pipe(output, { end: false })
  child.stderr.pipe(output, { end: false })
  return new Promise((resolve) =>
    child.once('close', (code) => {
      output.end(() => resolve(code ?? 1))
    }),
  )
}
