import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

/** A file of vega-datasets (BSD-3-Clause). The package exports its code only; its data stands beside the build. */
export function datasetFile(name: string): string {
  return join(dirname(createRequire(import.meta.url).resolve('vega-datasets')), '..', 'data', name)
}
