/** An event of a stream of server-sent events; `id` is the last that was told. */
export type StreamEvent = { id: string; event: string; data: string }

/** The events of a body as they come, https://html.spec.whatwg.org/multipage/server-sent-events.html. Leaving it closes the stream. */
export async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<StreamEvent> {
  let id = ''
  let event = 'message'
  let data: string[] = []
  let rest = ''
  const decoder = new TextDecoder()
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split(/\r?\n/)
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '') {
        yield { id, event, data: data.join('\n') }
        event = 'message'
        data = []
        continue
      }
      const [name = '', value = ''] = line.split(/: ?(.*)/s)
      if (name === 'id') id = value
      if (name === 'event') event = value
      if (name === 'data') data.push(value)
    }
  }
}
