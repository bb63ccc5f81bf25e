import { createServer } from 'node:http'
import { connect } from 'node:net'
import type { AddressInfo } from 'node:net'
import { createRequire } from 'node:module'

/** The part of the `ws` package that is used; it lives with the edge's tools and has no types there. */
type Socket = { on(event: string, listener: (data: Buffer) => void): Socket; send(data: Buffer): void; close(): void }
type Ws = {
  WebSocketServer: new (options: object) => { on(event: 'connection', listener: (socket: Socket) => void): void }
}

/**
 * Stands in for the WebSocket entry of Neon: every connection is piped to a PostgreSQL on loopback. It does not model
 * Neon's pooler, its autosuspend or its authentication. `tools` is the folder whose `node_modules` hold `ws`.
 */
export async function startNeonProxy(postgresPort: number, tools: string): Promise<{ hostPort: string; stop(): void }> {
  const { WebSocketServer } = createRequire(tools)('ws') as Ws
  const server = createServer()
  new WebSocketServer({ server }).on('connection', (socket) => {
    const database = connect(postgresPort, '127.0.0.1').setNoDelay(true)
    socket.on('message', (data) => database.write(data))
    socket.on('close', () => database.destroy())
    socket.on('error', () => database.destroy())
    database.on('data', (data) => socket.send(data))
    database.on('close', () => socket.close())
    database.on('error', () => socket.close())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    hostPort: `127.0.0.1:${port}`,
    stop() {
      server.close()
      server.closeAllConnections()
    },
  }
}
