import type { Route } from './define.ts'
import { credentialRoutes } from './credential-routes.ts'
import { pipelineRoutes } from './pipeline-routes.ts'
import { scheduleRoutes } from './schedule-routes.ts'
import { tenantRoutes } from './tenant-routes.ts'
import { workerRoutes } from './worker-routes.ts'

/** Every route below `/api/v1`. Where two fit a path, the earlier one counts. */
export const routes: readonly Route[] = [
  ...tenantRoutes,
  ...credentialRoutes,
  ...pipelineRoutes,
  ...scheduleRoutes,
  ...workerRoutes,
]
