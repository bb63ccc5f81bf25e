import { assertValidSchema } from 'graphql'
import { builder } from './builder.ts'
import '../tenants/graphql.ts'
import '../plans/graphql.ts'
import '../settings/graphql.ts'
import '../users/graphql.ts'
import '../api-keys/graphql.ts'
import '../sessions/graphql.ts'
import '../identity-providers/graphql.ts'
import '../credentials/graphql.ts'
import '../environments/graphql.ts'
import '../pipelines/graphql.ts'
import '../runs/graphql.ts'
import '../schedules/graphql.ts'
import '../backfills/graphql.ts'
import '../webhooks/graphql.ts'
import '../fleet/graphql.ts'
import '../datasets/graphql.ts'
import '../onboarding/graphql.ts'
import '../offboarding/graphql.ts'
import '../credential-tests/graphql.ts'
import '../audit/graphql.ts'

/** The public API, in the order of its domains. */
export const schema = builder.toSchema({ sortSchema: false })

// While the program starts, and not while somebody waits for its first answer.
assertValidSchema(schema)
