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
  // By hand: a stream of streams costs more than the text itself, for every event of every subscriber.
  const reader = response.body.getReader()
  const decoder = new TextDecoder()
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
          const frames = (rest + decoder.decode(part.value, { stream: true })).split('\n\n')
          rest = frames.pop() ?? ''
          if (frames.length === 0) continue
          return controller.enqueue(encoder.encode(frames.map((frame) => `${idLine(frame)}${frame}\n\n`).join('')))
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

// The number stands at the end of a result. Nothing inside one looks like it: that would close more than two braces.
function idLine(frame: string): string {
  const id = /"extensions":\{"eventId":(?:(\d+)|"([\w.]+)")\}\}$/.exec(frame)
  return id ? `id: ${id[1] ?? id[2]}\n` : ''
}
