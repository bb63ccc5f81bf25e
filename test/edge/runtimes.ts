import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { edgeBundle } from '../../scripts/edge-bundle.ts'

/** A runtime that serves the control plane. */
export type Runtime = AsyncDisposable & { url: string }

const root = fileURLToPath(new URL('../..', import.meta.url))
const tools = createRequire(import.meta.filename)

/** Deno runs the sources as they are. */
export async function onDeno(variables: Record<string, string>): Promise<Runtime> {
  const deno = fileURLToPath(new URL('node_modules/.bin/deno', import.meta.url))
  const args = [
    'serve',
    '--no-lock',
    '--node-modules-dir=manual',
    '--allow-env',
    '--allow-net',
    '--allow-read',
    '--host',
    '127.0.0.1',
    '--port',
    '0',
  ]
  const child = spawn(deno, [...args, 'control-plane/edge.ts'], {
    cwd: root,
    env: { ...process.env, ...variables, NO_COLOR: '1', DENO_NO_UPDATE_CHECK: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const said: string[] = []
  const url = await new Promise<string>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        said.push(line)
        const found = /http:\/\/[\w.]+:\d+/.exec(line)
        if (found) resolve(found[0])
      })
    }
    void ended.then(() => reject(new Error(`deno ended:\n${said.join('\n')}`)))
  })
  return {
    url,
    async [Symbol.asyncDispose]() {
      // The npm wrapper starts the real binary: the whole group must go.
      process.kill(-(child.pid ?? 0), 'SIGKILL')
      await ended
    },
  }
}

/** What is used of miniflare, which lives with the edge's tools. */
type Miniflare = { ready: Promise<URL>; dispose(): Promise<void> }

let bundled: Promise<string> | undefined

/** workerd, Cloudflare's own runtime, runs the bundle that a deployment would upload. */
export async function onWorkerd(variables: Record<string, string>): Promise<Runtime> {
  return workerd(await (bundled ??= edgeBundle(root)), variables)
}

/** workerd with one module, and with `flags` beside those of the product. */
export async function workerd(
  contents: string,
  variables: Record<string, string>,
  flags: readonly string[] = [],
): Promise<Runtime> {
  const { Miniflare } = tools('miniflare') as { Miniflare: new (options: object) => Miniflare }
  const server = new Miniflare({
    modules: [{ type: 'ESModule', path: 'edge.js', contents }],
    bindings: variables,
    compatibilityDate: '2026-04-01',
    compatibilityFlags: ['enable_request_signal', ...flags],
    host: '127.0.0.1',
    port: 0,
  })
  const url = await server.ready
  return { url: url.origin, [Symbol.asyncDispose]: () => server.dispose() }
}
