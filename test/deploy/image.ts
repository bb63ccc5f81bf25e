import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'
import { z } from 'zod'

/** The root of the product, from which images are built. */
export const root = join(import.meta.dirname, '..', '..')

/** An instruction of the Dockerfile: its word, its flags and the rest. */
export type Instruction = { word: string; flags: Record<string, string>; rest: string }

/** The stages of `deploy/Dockerfile`, each with its base and its instructions. */
export function stages(): { base: string; name: string | undefined; instructions: Instruction[] }[] {
  const text = readFileSync(join(root, 'deploy/Dockerfile'), 'utf8')
  const lines = text.replaceAll(/^#.*\n/gm, '').replaceAll(/\\\n\s*/g, ' ')
  const found: ReturnType<typeof stages> = []
  for (const line of lines.split('\n').filter((one) => one.trim() !== '')) {
    const [, word = '', given = ''] = /^(\w+)\s+(.*)$/.exec(line) ?? []
    const flags = Object.fromEntries([...given.matchAll(/(?:^|\s)--([a-z-]+)=(\S+)/g)].map(([, k, v]) => [k, v]))
    if (word === 'FROM') {
      const [base = '', , name] = given.split(/\s+/)
      found.push({ base, name, instructions: [] })
    } else found.at(-1)?.instructions.push({ word, flags, rest: given })
  }
  return found
}

/** What the image takes from the product, as [source, place in /app]. */
export function copied(): [from: string, to: string][] {
  const last = stages().at(-1)
  return (last?.instructions ?? []).flatMap(({ word, flags, rest }) => {
    if (word !== 'COPY' || flags['from'] !== undefined) return []
    const words = rest.split(/\s+/)
    const to = words.pop() ?? ''
    return words.map((from): [string, string] => [from, to.endsWith('/') ? `${to}${from.split('/').at(-1)}` : to])
  })
}

/** Variables that the image sets. */
export function imageVariables(): Record<string, string> {
  const set =
    stages()
      .at(-1)
      ?.instructions.filter(({ word }) => word === 'ENV') ?? []
  return Object.fromEntries(
    set.flatMap(({ rest }) => rest.split(/\s+/).map((one) => one.split('=') as [string, string])),
  )
}

const service = z.looseObject({
  image: z.string(),
  command: z.array(z.string()).optional(),
  env_file: z.array(z.string()),
  ports: z.array(z.string()).optional(),
  volumes: z.array(z.string()).optional(),
  depends_on: z.record(z.string(), z.object({ condition: z.string() })).optional(),
  healthcheck: z.looseObject({ test: z.array(z.string()).optional(), disable: z.boolean().optional() }).optional(),
  stop_grace_period: z.string().optional(),
})
/** A service of the compose file. */
export type Service = z.output<typeof service>

/** `deploy/compose.yml`, with what its services share in each. */
export function compose(): { services: Record<string, Service>; volumes: Record<string, unknown> } {
  const text = readFileSync(join(root, 'deploy/compose.yml'), 'utf8')
  return z
    .object({ services: z.record(z.string(), service), volumes: z.record(z.string(), z.unknown()) })
    .parse(parse(text, { merge: true }))
}

/** Variables of an env file as compose reads one. */
export function envFile(path: string): Record<string, string> {
  const lines = readFileSync(path, 'utf8').split('\n')
  return Object.fromEntries(
    lines.flatMap((line) => {
      const at = line.indexOf('=')
      return line.startsWith('#') || at < 0 ? [] : [[line.slice(0, at), line.slice(at + 1)]]
    }),
  )
}
