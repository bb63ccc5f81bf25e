import { type Scope, scopes, type SystemRole, systemRoles, tenantRoles } from '../../schema/roles.ts'
import {
  logLevels,
  queueStates,
  queueTypes,
  runStates,
  stepStates,
  stepTriggers,
  tenantStates,
} from '../../schema/states.ts'
import { builder } from './builder.ts'

/** Life of a tenant. */
export const TenantStatus = enumOf('TenantStatus', 'Life of a tenant.', tenantStates, {
  provisioning: 'It is being set up; no run can start.',
  active: 'It works.',
  suspended: 'It is halted: no run starts, and its keys read but change nothing.',
  offboarded: 'It has left.',
})
/** Logical queues. */
export const QueueType = enumOf('QueueType', 'A logical queue of a tenant.', queueTypes, {
  ingest: 'Reads from systems of the customer.',
  transform: 'Works on tables of the lake.',
  export: 'Writes and packs files.',
  delivery: 'Sends files and messages out.',
})
/** What is wanted of a queue, or how it stands. */
export const QueueState = enumOf('QueueState', 'What is wanted of a queue, or how it stands.', queueStates, {
  running: 'Steps are taken.',
  draining: 'Nothing new is taken, and something still runs.',
  stopped: 'Nothing is taken and nothing goes on.',
})
/** State of a run. */
export const RunState = enumOf('RunState', 'State of a run.', runStates, {
  queued: 'No step has started yet.',
  running: 'At least one step has started.',
  cancelling: 'It was asked to stop and steps still run.',
  succeeded: 'Every step that had to succeed did.',
  failed: 'A step failed for good; it can be retried.',
  cancelled: 'It was stopped; it can be retried.',
  timed_out: 'It took longer than its time limit; it can be retried.',
})
/** State of a step. */
export const StepState = enumOf('StepState', 'State of a step.', stepStates, {
  blocked: 'It waits for other steps.',
  ready: 'It waits for a worker, or for its next try.',
  running: 'A worker has it.',
  succeeded: 'It is done.',
  failed: 'Its last try failed.',
  skipped: 'Its trigger did not come.',
  cancelled: 'It was stopped with its run.',
})
/** When a step starts. */
export const StepTrigger = enumOf('StepTrigger', 'When a step starts, judged over what it waits for.', stepTriggers, {
  on_success: 'All of them succeeded.',
  on_failure: 'At least one failed.',
  always: 'They ended, in whatever way.',
})
/** Level of a log line. */
export const LogLevel = enumOf('LogLevel', 'Level of a log line, the least first.', logLevels, {
  info: 'What was done.',
  warn: 'Something to look at; the step goes on.',
  error: 'What broke.',
})
const tenantRoleTexts = {
  TENANT_ADMIN: 'Everything, people and keys included.',
  DATA_ENGINEER: 'Pipelines, runs, schedules, credentials and queues.',
  DATA_ANALYST: 'Reads pipelines and runs.',
  DATA_STEWARD: 'Reads pipelines and runs, and what was done by whom.',
  POWER_USER: 'Runs pipelines of others.',
}
/** Roles of people. */
export const TenantRole = enumOf('TenantRole', 'Role of a person inside a tenant.', tenantRoles, tenantRoleTexts)
/** Roles that a key can be made for. */
export const RoleEnum = enumOf(
  'Role',
  'A role: the scopes that a person or a program needs for one kind of work.',
  [...tenantRoles, ...systemRoles],
  { ...tenantRoleTexts, ...systemRoleTexts() },
)
/** Rights of a key. */
export const ScopeEnum = builder.enumType('Scope', {
  description: 'What a key may do.',
  values: Object.fromEntries(
    scopes.map((scope) => [
      scope.toUpperCase().replace(':', '_'),
      { value: scope, description: scopeDescriptions()[scope] },
    ]),
  ),
})

/** An enum of the API: its names are upper case, its values those of the database. */
export function enumOf<const V extends string>(
  name: string,
  description: string,
  values: readonly V[],
  texts: Record<V, string>,
) {
  return builder.enumType(name, {
    description,
    values: Object.fromEntries(
      values.map((value) => [value.toUpperCase(), { value, description: texts[value] }]),
    ) as Record<string, { value: V; description: string }>,
  })
}

function systemRoleTexts(): Record<SystemRole, string> {
  return {
    PLATFORM_ADMIN: 'Onboards tenants and has power over the keys of each. Of the platform.',
    SUPPORT: 'Reads the profile, people and keys of any tenant that it names. Of the platform.',
    AUDITOR: 'Reads the audit log of any tenant that it names. Of the platform.',
  }
}

function scopeDescriptions(): Record<Scope, string> {
  return {
    'platform:admin': 'Onboards tenants and gives out their keys; held by keys of the platform alone.',
    'platform:read': 'Reads any tenant that it names; held by keys of the platform alone.',
    'platform:audit': 'Reads the audit log of any tenant that it names; held by keys of the platform alone.',
    'tenant:read': 'Reads the profile of the tenant.',
    'tenant:write': 'Changes settings, features and environments of the tenant.',
    'users:read': 'Reads the people of the tenant.',
    'users:write': 'Makes, changes and removes people of the tenant.',
    'keys:read': 'Lists keys of the tenant, never their secrets.',
    'keys:write': 'Makes, rotates and revokes keys of the tenant, with no more scopes than its own.',
    'credentials:write': 'Stores credentials.',
    'credentials:read': 'Lists credentials, never their values.',
    'pipelines:read': 'Reads pipelines and templates, and checks pipeline files.',
    'pipelines:write': 'Saves pipelines.',
    'runs:read': 'Reads and watches runs.',
    'runs:write': 'Starts, cancels and retries runs.',
    'data:read': 'Reads rows of the tenant’s tables, their history and what is known about them.',
    'schedules:read': 'Reads schedules, backfills, webhooks and other triggers.',
    'schedules:write': 'Makes, changes and removes schedules, backfills and webhooks.',
    'workers:read': 'Reads and watches the queues of the tenant and how many workers serve them.',
    'workers:write': 'Starts, stops and restarts the queues of the tenant.',
    'audit:read': 'Reads the audit log.',
  }
}
