import { neonConfig, Pool } from '@neondatabase/serverless'
import { drizzle } from 'drizzle-orm/neon-serverless'
import * as tables from '../../schema/tables/index.ts'
import type { Db } from './db.ts'

/** Where a Neon-compatible proxy stands in for Neon itself, as `host:port`: development and tests. */
export type NeonProxy = string

/**
 * Neon over WebSocket: interactive transactions on every edge runtime. On Workers a connection must not outlive its
 * request, so open one per request and close it when the answer is out.
 */
export function openNeon(
  url: string,
  options: { max: number; proxy?: NeonProxy | undefined },
): { db: Db; close(): Promise<void> } {
  const { proxy } = options
  if (proxy) {
    neonConfig.wsProxy = () => `${proxy}/v2`
    neonConfig.useSecureWebSocket = false
    neonConfig.pipelineTLS = false
    neonConfig.pipelineConnect = false
  }
  const pool = new Pool({ connectionString: url, max: options.max, connectionTimeoutMillis: 10_000 })
  return { db: drizzle({ client: pool, schema: tables }), close: () => pool.end() }
}
