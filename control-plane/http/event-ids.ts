/**
 * Gives each event of a stream an `id:` line, from `extensions.eventId` of its result, so that an EventSource resumes by
 * itself. Frames without one (heartbeats, the end) pass as they are. `done` is called once, when the stream ends or the
 * reader leaves.
 */
export function withEventIds(response: Response, done: () => void): Response {
  if (!response.body) {
    done()
    return response
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let isDone = false
  const end = (): void => {
    if (!isDone) done()
    isDone = true
  }
  let rest = ''
  const encoder = new TextEncoder()
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        // A pull must enqueue something, or it is not called again: read until a whole frame is there.
        for (;;) {
          const part = await reader.read()
          if (part.done) {
            if (rest) controller.enqueue(encoder.encode(rest))
            controller.close()
            return end()
          }
          const frames = (rest + part.value).split('\n\n')
          rest = frames.pop() ?? ''
          for (const frame of frames) controller.enqueue(encoder.encode(`${idLine(frame)}${frame}\n\n`))
          if (frames.length > 0) return
        }
      } catch (error) {
        end()
        controller.error(error)
      }
    },
    async cancel(reason) {
      end()
      await reader.cancel(reason)
    },
  })
  return new Response(body, { status: response.status, headers: response.headers })
}

function idLine(frame: string): string {
  const data = /^data: (\{.*)$/m.exec(frame)?.[1]
  if (data === undefined) return ''
  const result: unknown = JSON.parse(data)
  const extensions = property(result, 'extensions')
  const id = property(extensions, 'eventId')
  return typeof id === 'number' || (typeof id === 'string' && /^[\w.]+$/.test(id)) ? `id: ${id}\n` : ''
}

const property = (value: unknown, name: string): unknown =>
  typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
