import { execFileSync, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { startProcess } from '../../test/support/self-host.ts'
import { result } from '../result.ts'
import type { House } from './house.ts'
import { type Asked, inTurns } from './in-turns.ts'

const load = { perRound: 64, atOnce: 4 }

/**
 * The control plane on Node as it is deployed, beside other servers that are asked for the same rows over the same driver in
 * a transaction that sees one tenant, and know nothing of callers and limits. Answers whether the goals are met.
 */
export async function onNode(house: House, rounds: number): Promise<boolean> {
  installPeers()
  await using undo = new AsyncDisposableStack()
  const plane = startProcess('standalone/control-plane.ts', [], {
    NODE_ENV: 'production',
    DATABASE_URL: house.web,
    PLATFORM_KEYS: house.platformKeys,
    PORT: '0',
  })
  undo.defer(async () => {
    plane.process.kill('SIGKILL')
    await plane.ended
  })
  const { url } = await plane.line('control_plane.up')
  const peer = async (kind: string, database = house.web): Promise<Asked> => {
    const started = await startPeer(kind, { DATABASE_URL: database, TENANT_ID: house.tenantId })
    undo.defer(started.stop)
    return started
  }
  const spent = await inTurns(
    {
      tributary: { url: `${String(url)}/graphql`, token: house.token, pid: plane.process.pid },
      yoga: await peer('yoga'),
      'yoga-without-tenants': await peer('yoga-without-tenants', house.strong),
      mercurius: await peer('mercurius'),
      apollo: await peer('apollo'),
    },
    { rounds, ...load },
  )
  for (const [name, { ms, ownMs }] of Object.entries(spent)) {
    result(`graphql.node.${name}`, ms, 'ms')
    if (ownMs !== undefined) result(`graphql.node.${name}.own`, ownMs, 'ms of a processor')
  }
  const over = (name: keyof typeof spent): number => spent.tributary.ms / spent[name].ms
  result('graphql.node.ratio-to-yoga-without-tenants', over('yoga-without-tenants'), 'times')
  result('graphql.node.ratio-to-mercurius', over('mercurius'), 'times')
  return [
    result('graphql.node.ratio-to-yoga', over('yoga'), 'times', { op: '<=', value: 1.15 }),
    result('graphql.node.ratio-to-apollo', over('apollo'), 'times', { op: '<=', value: 1 }),
  ].every(Boolean)
}

/** Installs the peers into a folder of their own, from its lockfile, if they are not there yet. */
export function installPeers(): void {
  const folder = fileURLToPath(new URL('../peers', import.meta.url))
  if (existsSync(`${folder}/node_modules/mercurius`)) return
  execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: folder, stdio: 'inherit' })
}

async function startPeer(kind: string, env: Record<string, string>): Promise<Asked & { stop(): Promise<void> }> {
  const file = fileURLToPath(new URL('serve-peer.ts', import.meta.url))
  const child = spawn(process.execPath, [file, kind], {
    env: { PATH: process.env['PATH'] ?? '', NODE_ENV: 'production', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.on('data', (said: Buffer) => resolve(said.toString().trim()))
    void ended.then(() => reject(new Error(`${kind} ended`)))
  })
  return {
    url,
    pid: child.pid,
    async stop() {
      child.kill('SIGKILL')
      await ended
    },
  }
}
