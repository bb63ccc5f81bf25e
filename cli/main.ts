import { readFile } from 'node:fs/promises'
import { text as textOf } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import { operations, RunEvents, type RunEventsSubscription } from '../schema/operations/index.ts'
import { AppError } from '../shared/errors.ts'
import { type Client, connect } from './client.ts'
import { helpOf, nearest, usage } from './help.ts'

/** What a command works with, so that it can be run anywhere: lines go to `out`, what went wrong to `err`. */
export type Surroundings = {
  env: Readonly<Record<string, string | undefined>>
  stdin: NodeJS.ReadableStream
  out: (line: string) => void
  err: (line: string) => void
  signal?: AbortSignal
}

// They are how somebody comes to a token.
const withoutKey = ['login', 'refresh-session']
const defaultUrl = 'http://127.0.0.1:8080'
/** Exit codes: it was done; it was refused, or the run did not succeed; the command is not usable. */
export const exits = { done: 0, refused: 1, unusable: 2 } as const

/** Runs one published operation and prints its answer as JSON, a subscription line by line. Resolves to the exit code. */
export async function runCommand(argv: readonly string[], around: Surroundings): Promise<number> {
  try {
    return await run(argv, around)
  } catch (error) {
    if (error instanceof Unusable) {
      around.err(error.message)
      return exits.unusable
    }
    if (!(error instanceof AppError)) throw error
    const { code, message, hint, context } = error
    const request = typeof context['requestId'] === 'string' ? ` (${context['requestId']})` : ''
    around.err(`${code}: ${message}${request}\n${hintFor(error, hint)}`)
    return exits.refused
  }
}

class Unusable extends Error {}

async function run(argv: readonly string[], around: Surroundings): Promise<number> {
  const { values, positionals } = parsed(argv)
  const [name, ...more] = positionals
  if (name === undefined) {
    ;(values.help ? around.out : around.err)(usage)
    return values.help ? exits.done : exits.unusable
  }
  if (more.length > 0)
    throw new Unusable(`One operation at a time; what is ${more.join(' ')}? Variables go into --json.`)
  const operation = Object.entries(operations).find(([key]) => key === name)?.[1]
  if (!operation) throw new Unusable(`There is no operation ${name}.${nearest(name)} --help lists them.`)
  if (values.help) {
    around.out(helpOf(name, operation))
    return exits.done
  }
  const variables = await variablesOf(values.json, around.stdin)
  const client = clientOf(around.env, name)
  const document: string = operation.text
  const options = around.signal ? { signal: around.signal } : {}
  if (operation.kind === 'subscription') {
    for await (const event of client.watch<unknown, unknown>(document, variables, options))
      around.out(JSON.stringify(event))
    return exits.done
  }
  const { once } = values
  const data = await client.ask<unknown, unknown>(document, variables, {
    ...options,
    ...(once === undefined ? {} : { idempotencyKey: once }),
  })
  around.out(JSON.stringify(data, null, 2))
  const payloads = Object.values(isObject(data) ? data : {}).filter(isObject)
  if (payloads.some(({ errors }) => Array.isArray(errors) && errors.length > 0)) return exits.refused
  const started = payloads.map(({ run }) => run).find(isObject)
  return values.watch && typeof started?.['id'] === 'string' ? watch(client, started['id'], around) : exits.done
}

// Follows a run to its end, through streams that are cut.
async function watch(client: Client, runId: string, { out, signal }: Surroundings): Promise<number> {
  let last = ''
  const isLast = ({ runEvents: { type } }: RunEventsSubscription): boolean =>
    /^run\.(succeeded|failed|cancelled|timed_out)$/.test(type)
  for await (const data of client.watch(RunEvents, { runId, after: 0 }, { isLast, ...(signal ? { signal } : {}) })) {
    const { at, type, stepKey, message } = data.runEvents
    out([at, type, stepKey, message].filter(Boolean).join('  '))
    last = type
  }
  return last === 'run.succeeded' ? exits.done : exits.refused
}

function parsed(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        json: { type: 'string' },
        once: { type: 'string' },
        watch: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
  } catch (error) {
    throw new Unusable(`${error instanceof Error ? error.message : String(error)}\n\n${usage}`)
  }
}

async function variablesOf(given: string | undefined, stdin: NodeJS.ReadableStream): Promise<Record<string, unknown>> {
  const text = await sourceOf(given ?? '{}', stdin)
  try {
    const variables: unknown = JSON.parse(text)
    if (isObject(variables)) return variables
  } catch (error) {
    throw new Unusable(`--json is no JSON: ${error instanceof Error ? error.message : String(error)}`)
  }
  throw new Unusable('--json takes an object: {"input": {"pipeline": "demo/places/daily"}}')
}

async function sourceOf(given: string, stdin: NodeJS.ReadableStream): Promise<string> {
  if (given === '-') return textOf(stdin)
  if (!given.startsWith('@')) return given
  return readFile(given.slice(1), 'utf8').catch((error: unknown) => {
    throw new Unusable(`--json: ${error instanceof Error ? error.message : String(error)}`)
  })
}

function clientOf(env: Surroundings['env'], operation: string): Client {
  const { TRIBUTARY_URL: url = defaultUrl, TRIBUTARY_KEY } = env
  const key = TRIBUTARY_KEY === '' ? undefined : TRIBUTARY_KEY
  if (!URL.canParse(url)) throw new Unusable(`TRIBUTARY_URL is no address: ${defaultUrl} is one.`)
  if (key === undefined && !withoutKey.includes(operation))
    throw new Unusable('Set TRIBUTARY_KEY to an API key: key_<id>.<secret>. npm start prints one.')
  return connect({ url, key })
}

function hintFor({ code }: AppError, hint: string): string {
  return code === 'UNAVAILABLE' ? `${hint} TRIBUTARY_URL says where the API is.` : hint
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

if (import.meta.main) {
  const stop = new AbortController()
  process.once('SIGINT', () => stop.abort(new AppError('CANCELLED', 'Stopped.', { hint: 'What was started goes on.' })))
  process.exitCode = await runCommand(process.argv.slice(2), {
    env: process.env,
    stdin: process.stdin,
    out: (line) => console.log(line),
    err: (line) => console.error(line),
    signal: stop.signal,
  })
}
