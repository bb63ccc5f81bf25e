import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { glob, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { GraphQLSchema } from 'graphql'
import { lexicographicSortSchema, printSchema } from 'graphql'
import { z } from 'zod'
import type { openApi as OpenApi } from '../control-plane/rest/openapi.ts'
import type { Route } from '../control-plane/rest/define.ts'
import { pipelineShape, stepKeys } from '../schema/config/pipeline.ts'
import type { CatalogEntry } from '../shared/config/catalog.ts'
import { isObject, type JsonSchema } from '../shared/config/json-schema.ts'
import type { Processor } from '../workers/define.ts'
import { publishedDocuments, typedOperations } from './client-types.ts'
import { releaseFaults, releasedPath, releasedSchema } from './contract.ts'
import { errorsPage } from './errors-page.ts'
import { rolesPage } from './roles-page.ts'

/**
 * What is generated and checked in, by path from the root: the processors as data for the edge, the editor's schema of
 * pipeline files, the pipelines of `configs/` (the edge has no file system), the SDL, the pages of errors and of who may do what, and the
 * published operations by their hash, and with their types, and the routes below `/api`. The same sources give the same
 * bytes. `onTypes` gets the types of the operations before what uses them is loaded.
 */
export async function generate(
  root: string,
  onTypes?: (path: string, text: string) => Promise<void>,
): Promise<Map<string, string>> {
  const { processors } = await load<{ processors: readonly Processor[] }>(root, 'workers/processors/index.ts')
  const catalog = catalogOf(processors)
  const files = new Map([
    ['schema/catalog.json', json(catalog)],
    ['schema/pipeline.schema.json', json(editorSchema(catalog))],
    ['schema/templates.json', json(await templates(root))],
    ['docs/errors.md', errorsPage()],
  ])
  if (existsSync(join(root, 'control-plane/graphql/schema.ts'))) {
    const { schema } = await load<{ schema: GraphQLSchema }>(root, 'control-plane/graphql/schema.ts')
    const sdl = sdlOf(schema)
    const documents = await publishedDocuments(root, schema)
    const types = await typedOperations(sdl, documents)
    await onTypes?.(operationsPath, types)
    files.set('schema/schema.graphql', sdl)
    files.set('docs/roles.md', rolesPage(schema))
    const { routes } = await load<{ routes: readonly Route[] }>(root, 'control-plane/rest/routes.ts')
    const { openApi } = await load<{ openApi: typeof OpenApi }>(root, 'control-plane/rest/openapi.ts')
    files.set('schema/openapi.json', json(openApi(routes)))
    files.set('schema/operations.json', json(Object.fromEntries(documents.map(({ id, text }) => [id, text]))))
    files.set(operationsPath, types)
  }
  return files
}

const operationsPath = 'schema/operations/index.ts'

/** Paths of generated files that are not what their sources say. */
export async function staleFiles(root: string): Promise<string[]> {
  const stale: string[] = []
  for (const [path, text] of await generate(root)) {
    const present = await readFile(join(root, path), 'utf8').catch(() => undefined)
    if (present !== text) stale.push(path)
  }
  return stale
}

/** Processors as data, sorted by type. Objects are closed unless they say otherwise: a mistyped key is a fault. */
export function catalogOf(processors: readonly Processor[]): CatalogEntry[] {
  return processors
    .map(({ type, title, description, queue, credentialProviders, writes, settings }) => ({
      type,
      title,
      description,
      queue,
      credentialProviders: [...credentialProviders],
      ...(writes === undefined ? {} : { writes }),
      settings: schemaOf(settings),
    }))
    .toSorted((a, b) => (a.type < b.type ? -1 : 1))
}

/** The schema that editors check pipeline files with: one form of step for each processor. */
export function editorSchema(catalog: readonly CatalogEntry[]): JsonSchema {
  const form = schemaOf(pipelineShape)
  const { $schema, ...rest } = form
  const common = schemaOf(z.strictObject(stepKeys))
  const steps = catalog.map((entry) => {
    const settings = openToPlaceholders(entry.settings)
    return {
      title: entry.type,
      description: `${entry.title}. ${entry.description}`,
      type: 'object',
      properties: {
        ...object(common['properties']),
        ps_type: { const: entry.type },
        ...object(object(settings)['properties']),
      },
      required: ['step_id', 'ps_type', ...list(entry.settings['required'])],
      additionalProperties: false,
    }
  })
  const properties = object(form['properties'])
  return {
    $schema,
    title: 'Tributary pipeline',
    ...rest,
    properties: { ...properties, steps: { ...object(properties['steps']), items: { oneOf: steps } } },
  }
}

// Bounds that zod writes for every integer say nothing and weigh much.
function schemaOf(shape: z.ZodType): Record<string, unknown> {
  return z.toJSONSchema(shape, {
    io: 'input',
    unrepresentable: 'any',
    // Without references every form stands where it is used, and a step's form can be moved into the editor's schema.
    cycles: 'throw',
    reused: 'inline',
    override({ jsonSchema }) {
      if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum
      if (jsonSchema.type === 'object' && jsonSchema.properties && jsonSchema.additionalProperties === undefined)
        jsonSchema.additionalProperties = false
    },
  })
}

const placeholderText = { type: 'string', pattern: String.raw`\{[a-z_][^{}]*\}` }

// Where a number, a choice, a list or a form of text is wanted, a placeholder may stand as well.
function openToPlaceholders(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(openToPlaceholders)
  if (!isObject(node)) return node
  const open = Object.fromEntries(
    Object.entries(node).map(([keyword, child]) => [keyword, openKeyword(keyword, child)]),
  )
  const isStrict = ['enum', 'const', 'pattern', 'format', 'minLength', 'maxLength'].some((keyword) => keyword in node)
  if (!isStrict && !['number', 'integer', 'boolean', 'array'].includes(String(node['type']))) return open
  const { description, default: given, ...rest } = open
  return {
    ...(description === undefined ? {} : { description }),
    ...(given === undefined ? {} : { default: given }),
    anyOf: [rest, placeholderText],
  }
}

// Under `properties` stand names, which may be those of keywords; under the literal keywords stand values.
function openKeyword(keyword: string, child: unknown): unknown {
  if (['properties', '$defs', 'patternProperties'].includes(keyword))
    return Object.fromEntries(Object.entries(object(child)).map(([name, schema]) => [name, openToPlaceholders(schema)]))
  return ['enum', 'const', 'default', 'required', 'examples', 'propertyNames'].includes(keyword)
    ? child
    : openToPlaceholders(child)
}

async function templates(root: string): Promise<Record<string, { text: string; sha256: string }>> {
  const paths: string[] = []
  for await (const path of glob('configs/*/*/*.yml', { cwd: root })) paths.push(path)
  const found: Record<string, { text: string; sha256: string }> = {}
  for (const path of paths.sort()) {
    const text = await readFile(join(root, path), 'utf8')
    const name = path.replace(/^configs\//, '').replace(/\.yml$/, '')
    found[name] = { text, sha256: createHash('sha256').update(text).digest('hex') }
  }
  return found
}

/** Makes the API of the sources the released contract. Throws with every reason not to. */
export async function release(root: string, today: Date): Promise<string> {
  const { schema } = await load<{ schema: GraphQLSchema }>(root, 'control-plane/graphql/schema.ts')
  const faults = releaseFaults(await releasedSchema(root, schema), schema, today)
  if (faults.length > 0) throw new Error(faults.join('\n'))
  return sdlOf(schema)
}

const sdlOf = (schema: GraphQLSchema): string => `${printSchema(lexicographicSortSchema(schema))}\n`

async function load<Module>(root: string, path: string): Promise<Module> {
  // The registries are typed where they are written; an import by address has no type of its own.
  return (await import(pathToFileURL(join(root, path)).href)) as Module
}

const json = (value: unknown): string => `${JSON.stringify(value, null, 1)}\n`
const object = (value: unknown): JsonSchema => (isObject(value) ? value : {})
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : [])

if (import.meta.main) {
  const root = join(import.meta.dirname, '..')
  if (process.argv.includes('--check')) {
    const stale = await staleFiles(root)
    for (const path of stale) console.error(`${path} is stale: run npm run generate`)
    process.exitCode = stale.length > 0 ? 1 : 0
  } else {
    const write = (path: string, text: string): Promise<void> => writeFile(join(root, path), text)
    for (const [path, text] of await generate(root, write)) await write(path, text)
    if (process.argv.includes('--release')) await write(releasedPath, await release(root, new Date()))
  }
}
