/** What the platform itself gives to every pipeline: `{tenant_id}`, `{date}` … The list is closed. */
export const builtInNames = [
  'tenant_id',
  'run_id',
  'pipeline_id',
  'date',
  'date_nodash',
  'datetime',
  'admin_email',
  'company_name',
  'trigger',
] as const
/** A built-in name. */
export type BuiltInName = (typeof builtInNames)[number]

/** Built-ins that stay the same from run to run: all that `pipeline_id` may use. */
export const stableNames: readonly BuiltInName[] = ['tenant_id', 'admin_email', 'company_name']

/** What `{failure.<name>}` may name, in steps with `trigger: on_failure`. */
export const failureNames = ['step_id', 'message', 'code'] as const

/** Names that no variable and no parameter may take. `date` alone may be a parameter: a run can be for another day. */
export const reservedNames: readonly string[] = [
  ...builtInNames,
  'steps',
  'failure',
  'item',
  'item_index',
  'secret',
  'credential',
  'env',
]

/** Form of the name of a variable, a parameter or a step; dots are left to `steps.<step_id>.<name>`. */
export const namePattern = /^[a-z][a-z0-9_]{0,62}$/

/** A value behind a placeholder: a scalar, or what an earlier step put out. */
export type Value = string | number | boolean | null | Value[] | { [name: string]: Value }

/** Names and what they stand for. Only own properties count, so that `constructor` is never found. */
export type Values = { readonly [name: string]: Value }
