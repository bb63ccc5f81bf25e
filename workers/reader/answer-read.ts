import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { eq } from 'drizzle-orm'
import { tenant, tenantLimit } from '../../schema/tables/index.ts'
import type { DataRead, DataRow } from '../../shared/datasets/reader.ts'
import { withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import type { Ports } from '../../shared/ports.ts'
import { takeHome } from '../../shared/runs/homes.ts'
import type { LakeOptions } from '../lake/tenant-store.ts'
import type { ProcessPool } from '../process/pool.ts'
import { bindingOf } from '../run-step.ts'
import { boundTo } from '../step-input.ts'

/** How this worker reads. `folder` as in `WorkerOptions`; `worker` is its id. */
export type ReadOptions = {
  worker: string
  dataDir: string
  folder?: string | undefined
  lake: LakeOptions
  allowPrivateNetwork: boolean
  leaseMs: number
}

/**
 * Reads a tenant's lake in the tenant's own process, which it starts when there is none. A tenant without a lake, or that
 * has left, has no tables. Throws UNAVAILABLE while another worker has the lake, and what `readLake` throws.
 */
export async function answerRead(
  ports: Ports,
  pool: ProcessPool,
  read: DataRead,
  options: ReadOptions,
  signal: AbortSignal,
): Promise<DataRow[]> {
  const { tenantId, operation } = read
  const bound = await withTenant(ports.db, { tenantId, side: 'worker' }, async (tx) => {
    const [row] = await tx
      .select({ tenant, limits: tenantLimit })
      .from(tenant)
      .innerJoin(tenantLimit, eq(tenantLimit.tenantId, tenant.id))
      .where(eq(tenant.id, tenantId))
    // Of one that has left nothing may be made anew: no role of a catalog, and there is no key.
    return row && row.tenant.status !== 'offboarded' ? boundTo(ports, tx, row, options.lake) : undefined
  })
  const isThere = bound !== undefined && (options.lake.catalogUrl !== undefined || (await isFile(options, tenantId)))
  if (!isThere) {
    if (operation === 'tables' || operation === 'nothing') return []
    throw new AppError('NOT_FOUND', 'There is no such table.')
  }
  if (operation === 'nothing') return []
  const { worker, folder, leaseMs } = options
  if (folder !== undefined && !(await takeHome(ports.db, { worker, folder, tenantId, leaseMs })))
    throw new AppError('UNAVAILABLE', 'Another worker has these tables open.')
  return await pool.read(await bindingOf(bound, options), read, signal)
}

const isFile = ({ dataDir }: ReadOptions, tenantId: string): Promise<boolean> =>
  access(join(dataDir, 'tenants', tenantId, 'lake.duckdb')).then(
    () => true,
    () => false,
  )
