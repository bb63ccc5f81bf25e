import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { type Plugin, rolldown } from 'rolldown'

/** The bundle of the edge may have this many bytes after gzip: what Cloudflare has to fetch and to start from. */
export const gzipBytesMax = 400 * 1024

/** The control plane as one module for the browser platform, as a deployment uploads it. Throws when it does not bundle. */
export async function edgeBundle(
  root: string,
  { entry = join(root, 'control-plane', 'edge.ts'), plugins = [] }: { entry?: string; plugins?: Plugin[] } = {},
): Promise<string> {
  const bundle = await rolldown({
    input: entry,
    cwd: root,
    platform: 'browser',
    logLevel: 'silent',
    external: /^cloudflare:/,
    resolve: { conditionNames: ['workerd', 'worker', 'browser', 'import', 'default'] },
    plugins: [withoutUnused, withPlainCache, ...plugins],
  })
  try {
    const { output } = await bundle.generate({ format: 'esm', minify: true, codeSplitting: false })
    return output[0].code
  } finally {
    await bundle.close()
  }
}

// Of the GraphQL server what the API never comes to: pages that only development shows, which never runs from a bundle,
// bodies in forms, which are off, and a host that is none of ours.
const without: Readonly<Record<string, string>> = {
  'graphql-yoga/esm/graphiql-html.js': "export default ''",
  'graphql-yoga/esm/landing-page-html.js': "export default ''",
  'graphql-yoga/esm/plugins/use-graphiql.js':
    'export const useGraphiQL = undefined, renderGraphiQL = undefined, shouldRenderGraphiQL = undefined',
  'graphql-yoga/esm/plugins/request-parser/post-multipart.js':
    'export const isPOSTMultipartRequest = () => false, parsePOSTMultipartRequest = undefined',
  '@whatwg-node/server/esm/uwebsockets.js':
    "export { fakePromise } from '@whatwg-node/promise-helpers'; export const isUWSResponse = () => false, getRequestFromUWSRequest = undefined, sendResponseToUwsOpts = undefined",
}
const withoutUnused: Plugin = {
  name: 'without-unused',
  load: (id) => without[id.slice(id.lastIndexOf('node_modules/') + 'node_modules/'.length)],
}

// The server keeps documents in our cache and only what was valid under which rules in its own: a handful of names, for which
// it brings a cache of 9 KB.
const withPlainCache: Plugin = {
  name: 'with-plain-cache',
  load: (id) =>
    id.endsWith('graphql-yoga/esm/utils/create-lru-cache.js')
      ? 'export const _createLRUCache = () => new Map()\nexport const createLRUCache = _createLRUCache'
      : undefined,
}

/** Bytes of a bundle after gzip. */
export const gzipBytes = (bundle: string): number => gzipSync(bundle).byteLength

if (import.meta.main) {
  const root = join(import.meta.dirname, '..')
  const file = join(root, 'dist', 'edge.js')
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, await edgeBundle(root))
}
