import { z } from 'zod'
import generated from '../../schema/templates.json' with { type: 'json' }

/** A pipeline that ships with the product: `configs/<path>.yml`. */
export type Template = { path: string; text: string; sha256: string }

const known: ReadonlyMap<string, Template> = new Map(
  Object.entries(z.record(z.string(), z.object({ text: z.string(), sha256: z.string() })).parse(generated)).map(
    ([path, template]) => [path, { path, ...template }],
  ),
)

/** True for paths of the platform's own pipelines, which tenants neither run nor replace. */
export const isSystemPath = (path: string): boolean => path.startsWith('system/')

/** The template of this path. */
export const templateOf = (path: string): Template | undefined => known.get(path)

/** Templates that tenants may run, by path. */
export const tenantTemplates: readonly Template[] = [...known.values()]
  .filter(({ path }) => !isSystemPath(path))
  .sort((a, b) => (a.path < b.path ? -1 : 1))
