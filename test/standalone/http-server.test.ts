import { createConnection } from 'node:net'
import { expect, test } from 'vitest'
import { type FetchHandler, serveHttp } from '../../standalone/http-server.ts'
import { until } from '../support/control-plane.ts'

const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined }
const serve = (handler: FetchHandler['fetch']) =>
  serveHttp({ fetch: handler }, { host: '127.0.0.1', port: 0, log: quiet })
const events = { 'content-type': 'text/event-stream' }

test('at the stop streams end whole, and a request that is on its way gets its answer', async () => {
  const asked = Promise.withResolvers<void>()
  const answering = Promise.withResolvers<void>()
  const server = await serve(async (request) => {
    if (request.url.endsWith('/slow')) {
      asked.resolve()
      await answering.promise
      return new Response('done')
    }
    return new Response(
      new ReadableStream({
        start: (controller) => controller.enqueue(new TextEncoder().encode('event: next\ndata: {}\n\n')),
      }),
      { headers: events },
    )
  })
  const stream = await fetch(`${server.url}/stream`)
  expect(server.streams()).toBe(1)
  const slow = fetch(`${server.url}/slow`)
  await asked.promise
  const text = stream.text()
  const stopped = server.stop(10_000)
  // Whole: a stream that is cut makes its reader throw.
  expect(await text).toBe('event: next\ndata: {}\n\n')
  answering.resolve()
  expect(await (await slow).text()).toBe('done')
  await stopped
  expect(server.streams()).toBe(0)
})

test('of a stream nothing is read ahead of a client that takes nothing', async () => {
  let pulled = 0
  const chunk = new Uint8Array(64 * 1024).fill(120)
  const server = await serve(async () => {
    const body = new ReadableStream({
      pull(controller) {
        pulled++
        controller.enqueue(chunk)
      },
    })
    return new Response(body, { headers: events })
  })
  const client = createConnection(Number(new URL(server.url).port), '127.0.0.1').pause()
  client.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
  // What the kernel takes for both ends is a few MiB; then nothing moves any more.
  let before = -1
  await until('the server waits for its client', async () => {
    const isStill = pulled > 0 && pulled === before
    before = pulled
    await new Promise((resolve) => setTimeout(resolve, 200))
    return isStill && pulled === before
  })
  expect(pulled * chunk.byteLength).toBeLessThan(32 * 2 ** 20)
  client.destroy()
  await until('the stream is over', () => server.streams() === 0)
  await server.stop()
})
