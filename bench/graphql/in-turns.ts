import { existsSync, readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { body, listed } from './question.ts'

/** A server that is asked, what it wants to see of the caller, and its process where its own time counts. */
export type Asked = { url: string; token?: string | undefined; pid?: number | undefined }
/** Milliseconds of a request: until its answer, and of processors in the server's process, undefined where that is not known. */
export type Spent = { ms: number; ownMs: number | undefined }

/** How a server is loaded: `perRound` requests, `atOnce` of them on their way at a time, `rounds` times. */
export type Load = { rounds: number; perRound: number; atOnce: number }

/**
 * Medians of the milliseconds that a request takes of each server's time under this load. Servers are asked in turns, in
 * another order each round, so that the load of the machine meets all alike. Throws when an answer is not the whole list.
 */
export async function inTurns<Name extends string>(
  servers: Readonly<Record<Name, Asked>>,
  { rounds, perRound, atOnce }: Load,
): Promise<Record<Name, Spent>> {
  const agent = new Agent({ keepAlive: true, maxSockets: atOnce })
  // Its keys are those of `servers`.
  const names = Object.keys(servers) as Name[]
  const spent = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>
  const own = Object.fromEntries(names.map((name) => [name, 0])) as Record<Name, number>
  const warmups = Math.ceil(rounds / 5)
  for (let round = -warmups; round < rounds; round++) {
    const from = Math.abs(round) % names.length
    for (const name of [...names.slice(from), ...names.slice(0, from)]) {
      const { pid } = servers[name]
      const before = processorMs(pid)
      const begun = performance.now()
      let left = perRound
      const asking = async (): Promise<void> => {
        while (left-- > 0) await ask(agent, servers[name])
      }
      await Promise.all(Array.from({ length: atOnce }, asking))
      if (round < 0) continue
      spent[name].push((performance.now() - begun) / perRound)
      own[name] += processorMs(pid) - before
    }
  }
  agent.destroy()
  const median = (values: number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0
  return Object.fromEntries(
    names.map((name) => {
      const ownMs = own[name] / (rounds * perRound)
      return [name, { ms: median(spent[name]), ownMs: ownMs > 0 ? ownMs : undefined }]
    }),
  ) as Record<Name, Spent>
}

// Of all threads of a process, in ticks of 10 ms; 0 where the system does not tell.
function processorMs(pid: number | undefined): number {
  const path = `/proc/${pid ?? 0}/stat`
  if (!existsSync(path)) return 0
  // After the name of the program, which may hold anything: user time is the 12th field, system time the 13th.
  const [, user = '0', system = '0'] =
    /^(?:\S+ ){11}(\d+) (\d+)/.exec(readFileSync(path, 'utf8').replace(/^.*\) /, '')) ?? []
  return 10 * (Number(user) + Number(system))
}

function ask(agent: Agent, { url, token }: Asked): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    }
    const asked = request(url, { method: 'POST', agent, headers }, (response) => {
      const pieces: Buffer[] = []
      response.on('data', (piece: Buffer) => pieces.push(piece))
      response.on('error', reject)
      response.on('end', () => {
        const text = Buffer.concat(pieces).toString()
        // A GraphQL error comes with status 200.
        if (text.split('"path":').length === listed + 1) resolve()
        else reject(new Error(`the list of ${url} is not whole: ${text.slice(0, 300)}`))
      })
    })
    asked.on('error', reject)
    asked.end(body)
  })
}
