import { pgSchema } from 'drizzle-orm/pg-core'

/** Every table of the product lives in this schema; the migrations make it. */
export const app = pgSchema('app')
