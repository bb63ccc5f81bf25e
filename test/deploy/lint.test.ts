import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '..', '..')
const tools = createRequire(import.meta.filename)

/** What is used of the linter of Dockerfiles, which lives with this lane's tools. */
type DockerfileUtils = { validate(text: string): { message: string; range: { start: { line: number } } }[] }

function dockerfileFaults(text: string): string[] {
  const { validate } = tools('dockerfile-utils') as DockerfileUtils
  return validate(text).map(({ message, range }) => `${range.start.line + 1}: ${message}`)
}

// Its rules on the order of keys and services are taste; the form itself is checked by the schema of the specification.
const taste = ['service-keys-order', 'services-alphabetical-order', 'top-level-properties-order']
function composeFaults(file: string): { status: number | null; output: string } {
  const program = join(import.meta.dirname, 'node_modules/.bin/dclint')
  const args = [file, '--max-warnings', '0', '--disable-rule', ...taste, 'require-quotes-in-ports']
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], { cwd: root, encoding: 'utf8' })
  return { status, output: stdout + stderr }
}

test('the Dockerfile has no fault, and the linter finds one', () => {
  const text = readFileSync(join(root, 'deploy/Dockerfile'), 'utf8')
  expect(dockerfileFaults(text)).toEqual([])
  expect(dockerfileFaults(text.replace('--interval=10s', '--interval=10parsecs'))).toHaveLength(1)
  expect(dockerfileFaults(`${text}\nLISTEN 8080\n`)).toHaveLength(1)
})

test('the compose file has the form of the specification, and the linter finds what has not', () => {
  const file = join(root, 'deploy/compose.yml')
  expect(composeFaults(file)).toEqual({ status: 0, output: expect.not.stringContaining('error') })
  const folder = mkdtempSync(join(tmpdir(), 'compose-'))
  const text = readFileSync(file, 'utf8')
  for (const [sound, broken] of [
    ['condition: service_healthy', 'condition: service_happy'],
    ['stop_grace_period: 60s', 'stop_grace_period: 60s\n    graceful: true'],
    ['image: postgres:17', 'image: postgres:latest'],
  ] as const) {
    expect(text).toContain(sound)
    const path = join(folder, 'compose.yml')
    writeFileSync(path, text.replace(sound, broken))
    expect(composeFaults(path).status).not.toBe(0)
  }
  rmSync(folder, { recursive: true })
})
