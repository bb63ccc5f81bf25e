import type { Source } from '../define.ts'
import postgres from './postgres.ts'

/** Every source that `db.ingest` reads, sorted by provider. */
export const sources: readonly Source[] = [postgres]
