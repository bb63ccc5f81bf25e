import type { App } from '../../control-plane/app.ts'
import type { Role } from '../../schema/roles.ts'
import type { Loose } from '../support/control-plane.ts'

/** Somebody who asks: a role stands for a credential that works, none for one that does not. */
export type Caller = { name: string; token?: string; role?: Role }

/** An answer as its bytes. */
export type Answer = { status: number; text: string; data: Loose }

/** A document with its variables. */
export type Question = { document: string; variables?: object; headers?: Record<string, string> }

/** Asks the API and waits for what the request does after its answer. The text of a stream is all of its frames. */
export async function askGraphql(app: App, caller: Caller, question: Question): Promise<Answer> {
  const { document, variables = {}, headers = {} } = question
  const isStream = document.startsWith('subscription')
  const request = new Request('http://edge.example/graphql', {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(isStream ? { accept: 'text/event-stream' } : {}),
      ...headersOf(caller),
      ...headers,
    },
    body: JSON.stringify({ query: document, variables }),
  })
  return read(app, request)
}

/** Asks another door of the control plane, by GET. */
export function askPath(app: App, caller: Caller, path: string): Promise<Answer> {
  return read(app, new Request(`http://edge.example${path}`, { headers: headersOf(caller) }))
}

const headersOf = ({ token }: Caller): Record<string, string> =>
  token === undefined ? {} : { authorization: `Bearer ${token}` }

async function read(app: App, request: Request): Promise<Answer> {
  const later: Promise<unknown>[] = []
  const response = await app.fetch(request, { waitUntil: (work) => later.push(work) })
  const text = await response.text()
  // Later work may ask for more of it.
  for (let done = 0; done < later.length; done++) await later[done]
  const body: Loose = text.startsWith('{') ? JSON.parse(text.split('\n', 1)[0] ?? '') : {}
  return { status: response.status, text, data: body.data }
}

/** An answer without the number of its request, which no two share. */
export const withoutRequestId = (text: string): string =>
  text.replaceAll(/"(requestId|request_id)":"req_[^"]*"/g, '"$1":"req"')
