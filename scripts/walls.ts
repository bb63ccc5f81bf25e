import { existsSync } from 'node:fs'
import { glob, readFile } from 'node:fs/promises'
import { dirname, join, relative, sep } from 'node:path'
import type { Plugin } from 'rolldown'
import { parseSync } from 'rolldown/utils'
import { edgeBundle, gzipBytes, gzipBytesMax } from './edge-bundle.ts'

/** Which rooms may import which; what is not listed here (tests, scripts, standalone, bench) may import all of them. */
const rooms: Readonly<Record<string, { imports: readonly RegExp[]; node: boolean }>> = {
  schema: { imports: [/^schema\//], node: false },
  shared: { imports: [/^(schema|shared)\//], node: false },
  'control-plane': { imports: [/^(schema|shared|control-plane)\//], node: false },
  workers: { imports: [/^(schema|shared|workers)\//], node: true },
  cli: { imports: [/^cli\//, /^schema\/operations\//, /^shared\/(errors|ids)\.ts$/], node: true },
  console: { imports: [/^console\//, /^schema\/operations\//, /^shared\/(errors|ids)\.ts$/], node: false },
}

/** Domains of the control plane: each may import those before it, and all of them `audit`. Other folders serve all. */
const domains = [
  'audit',
  'tenants',
  'users',
  'api-keys',
  'sessions',
  'identity-providers',
  'credentials',
  'pipelines',
  'runs',
  'schedules',
  'backfills',
  'webhooks',
  'fleet',
  'datasets',
  'alerts',
]

/** The one file that verifies tokens, and what the others may take from the library for it: what signs. */
const verifier = 'shared/auth/verify-token.ts'
const joseNames = ['SignJWT', 'importPKCS8']

/** Everything that breaks a wall between the rooms, by import and in the bundle of the edge; empty when all stand. */
export async function wallFaults(root: string): Promise<string[]> {
  const entry = join(root, 'control-plane', 'edge.ts')
  return [...(await importFaults(root)), ...(existsSync(entry) ? await bundleFaults(root, entry) : [])]
}

/** Imports in source files that the rooms do not allow, types included. */
export async function importFaults(root: string): Promise<string[]> {
  const faults: string[] = []
  for await (const path of glob(`{${[...Object.keys(rooms), 'standalone', 'scripts'].join(',')}}/**/*.{ts,tsx}`, {
    cwd: root,
  })) {
    const file = path.split(sep).join('/')
    if (file.includes('/node_modules/') || file.includes('/dist/')) continue
    const text = await readFile(join(root, path), 'utf8')
    for (const specifier of importsOf(file, text)) {
      const why = importFault(file, specifier)
      if (why) faults.push(`${file} imports ${specifier}: ${why}`)
    }
    for (const name of joseNamesOf(file, text))
      if (file !== verifier && !joseNames.includes(name))
        faults.push(`${file} takes ${name} from jose: only ${verifier} reads tokens`)
  }
  return faults.sort()
}

/** What the bundle of an edge entry must not be: too large, or with Node's own modules or files of the rooms that run on Node. */
export async function bundleFaults(root: string, entry: string): Promise<string[]> {
  const faults = new Set<string>()
  const walls: Plugin = {
    name: 'walls',
    resolveId(specifier, importer) {
      if (specifier.startsWith('node:')) faults.add(`the edge bundle imports ${specifier} (${shown(root, importer)})`)
    },
    moduleParsed({ id }) {
      const path = shown(root, id)
      if (/^(workers|standalone|cli|console|scripts|test|bench)\//.test(path))
        faults.add(`the edge bundle holds ${path}`)
    },
  }
  const bundle = await edgeBundle(root, { entry, plugins: [walls] }).catch((error: unknown) => {
    faults.add(`the edge does not bundle: ${error instanceof Error ? error.message : String(error)}`)
  })
  const bytes = gzipBytes(bundle ?? '')
  if (bytes > gzipBytesMax)
    faults.add(`the edge bundle has ${kibibytes(bytes)} KiB after gzip; ${kibibytes(gzipBytesMax)} KiB is the limit`)
  return [...faults].sort()
}

function importFault(file: string, specifier: string): string | undefined {
  const from = rooms[file.split('/')[0] ?? '']
  if (!from) return undefined
  if (specifier.startsWith('node:')) return from.node ? undefined : 'this room runs without Node'
  if (!specifier.startsWith('.')) return undefined
  const target = join(dirname(file), specifier).split(sep).join('/')
  if (!from.imports.some((form) => form.test(target))) return 'a wall stands between them'
  return domainFault(file, target) ?? processorFault(file, target)
}

function domainFault(file: string, target: string): string | undefined {
  const [from, to] = [file, target].map((path) => domains.indexOf(/^control-plane\/([^/]+)\//.exec(path)?.[1] ?? ''))
  if (from === undefined || to === undefined || from < 0) return undefined
  return to > from ? 'a domain imports earlier domains only' : undefined
}

function processorFault(file: string, target: string): string | undefined {
  const folder = 'workers/processors/'
  const isBetween = file.startsWith(folder) && target.startsWith(folder) && file !== `${folder}index.ts`
  return isBetween ? 'a processor imports no other processor' : undefined
}

// Static and dynamic imports and re-exports, types included, from the syntax tree: text in comments is none.
function importsOf(file: string, text: string): string[] {
  const { module } = parseSync(file, text)
  return [
    ...module.staticImports.map((statement) => statement.moduleRequest.value),
    ...module.staticExports.flatMap((statement) => statement.entries.map((entry) => entry.moduleRequest?.value ?? '')),
    ...module.dynamicImports.map(({ moduleRequest: { start, end } }) => text.slice(start + 1, end - 1)),
  ].filter((specifier) => specifier !== '')
}

// What is taken from the token library by name; `*` for all of it, by whatever way.
function joseNamesOf(file: string, text: string): string[] {
  const isJose = (specifier: string | undefined): boolean => specifier !== undefined && /^jose(\/|$)/.test(specifier)
  const { module } = parseSync(file, text)
  return [
    ...module.staticImports
      .filter((statement) => isJose(statement.moduleRequest.value))
      .flatMap(({ entries }) => entries.filter((entry) => !entry.isType).map((entry) => entry.importName.name ?? '*')),
    ...module.staticExports
      .flatMap((statement) => statement.entries)
      .filter((entry) => isJose(entry.moduleRequest?.value) && !entry.isType)
      .map((entry) => entry.importName.name ?? '*'),
    ...module.dynamicImports
      .filter(({ moduleRequest: { start, end } }) => isJose(text.slice(start + 1, end - 1)))
      .map(() => '*'),
  ]
}

const shown = (root: string, id: string | undefined): string =>
  id === undefined ? 'the entry' : relative(root, id).split(sep).join('/')

const kibibytes = (bytes: number): string => (bytes / 1024).toFixed(1)

if (import.meta.main) {
  const root = join(import.meta.dirname, '..')
  const faults = await wallFaults(root)
  const bytes = gzipBytes(await edgeBundle(root).catch(() => ''))
  console.log(
    `RESULT edge_bundle_gzip ${kibibytes(bytes)} KiB goal <= ${kibibytes(gzipBytesMax)} ${bytes <= gzipBytesMax ? 'ok' : 'short'}`,
  )
  for (const fault of faults) console.error(fault)
  process.exitCode = faults.length > 0 ? 1 : 0
}
