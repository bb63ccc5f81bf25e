import { and, eq } from 'drizzle-orm'
import { catalog, sqlFields } from '../shared/config/catalog.ts'
import { parsePipeline } from '../shared/config/parse.ts'
import { isWanted } from '../shared/config/when.ts'
import { pipelineName, resolveSettings, variableValues } from '../shared/config/variables.ts'
import { featureOfProcessor, features, isOn } from '../schema/config/features.ts'
import {
  credential,
  pipelineRun,
  pipelineVersion,
  runStep,
  tenant,
  tenantLimit,
  tenantUsage,
} from '../schema/tables/index.ts'
import { type Tx, withTenant } from '../shared/db/db.ts'
import { AppError } from '../shared/errors.ts'
import { audit } from '../shared/audit.ts'
import { openStored } from '../shared/secrets/secret-box.ts'
import type { Ports } from '../shared/ports.ts'
import type { Claim } from '../shared/runs/ledger.ts'
import type { OutputValue } from './define.ts'
import { areFilesEncrypted, type LakeOptions } from './lake/tenant-store.ts'
import type { Binding, Job } from './process/messages.ts'

type CredentialRow = typeof credential.$inferSelect

/**
 * What the tenant's process is given for one claim, or the items over which the step fans out; undefined when the step's
 * `when` says that it is not wanted, or when the tenant has switched its feature off.
 */
export type StepInput = (Bound & { job: Job }) | { items: readonly unknown[] } | undefined

/** Who a tenant's process works for, what its plan gives it, and what opens its lake when that is an encrypted file. */
export type Bound = Pick<Binding, 'tenant' | 'limits'> & { lakeKey?: string | undefined }

/**
 * Reads everything a claimed step needs, resolves its settings and opens its credential (audited), in one transaction
 * of the tenant; `lake` says whether its lake has a key. A step that names no credential gets the tenant's only one of its processor's provider, if there is one.
 * Throws CREDENTIAL_MISSING, VARIABLE_UNKNOWN, QUOTA_EXCEEDED when it would write and the tenant's storage is used up, and
 * the like: faults of the step, not of the worker.
 */
export function stepInput(ports: Ports, claim: Claim, lake: LakeOptions = {}): Promise<StepInput> {
  return withTenant(ports.db, { tenantId: claim.tenantId, side: 'worker' }, async (tx) => {
    const row = await read(tx, claim)
    const results = await tx
      .select({ key: runStep.stepKey, result: runStep.result, parent: runStep.parentStep })
      .from(runStep)
      .where(and(eq(runStep.tenantId, claim.tenantId), eq(runStep.runId, claim.runId), eq(runStep.state, 'succeeded')))
    const values = valuesOf(row, results, claim)
    // `when` may speak of the item: it is judged for each child.
    if (row.step.forEach !== null && row.step.parentStep === null)
      return { items: itemsOf(row.step.forEach, values.all) }
    if (!isWanted(values.when, values.all)) return undefined
    const entry = catalog.find((candidate) => candidate.type === row.step.psType)
    if (!entry) throw new AppError('CONFIG_INVALID', `This worker has no processor ${row.step.psType}.`)
    if (!isFeatureOn(row)) return undefined
    if (entry.writes !== false) await refuseFullStorage(tx, row)
    const sqlPaths = sqlFields(entry.settings).map((field) => field.path)
    const settings = resolveSettings(row.step.settings, sqlPaths, values.all)
    return {
      ...(await boundTo(ports, tx, row, lake)),
      job: {
        id: `${claim.runId}/${claim.stepKey}/${claim.fence}`,
        psType: row.step.psType,
        run: {
          id: claim.runId,
          pipelineId: values.pipelineId,
          trigger: row.run.triggerKind,
          actor: row.run.requestedBy,
        },
        step: { key: claim.stepKey, attempt: claim.attempt, cycle: row.step.cycle, fence: claim.fence },
        settings,
        values: values.all,
        secret: await openCredential(tx, ports, claim, row, entry.credentialProviders),
      },
    }
  })
}

/** What a tenant's process is bound to, in a transaction of the tenant. Throws SECRET_UNREADABLE when the key of its lake is gone. */
export async function boundTo(
  { secrets }: Pick<Ports, 'secrets'>,
  tx: Tx,
  { tenant: { id, companyName, adminEmail }, limits }: Pick<Read, 'tenant' | 'limits'>,
  lake: LakeOptions,
): Promise<Bound> {
  const { memoryBytes, threads, diskBytes, rowsPerMonth } = limits
  return {
    tenant: { id, companyName, adminEmail },
    limits: { memoryBytes, threads, diskBytes, rowsMax: rowsPerMonth },
    lakeKey: (await areFilesEncrypted(lake)) ? await secrets.lakeKey(tx, id) : undefined,
  }
}

const itemsMax = 1_000

function itemsOf(forEach: unknown, values: Record<string, OutputValue>): unknown[] {
  const resolved = resolveSettings({ list: forEach }, [], values)['list']
  if (!Array.isArray(resolved)) throw new AppError('CONFIG_INVALID', 'for_each does not stand for a list here.')
  if (resolved.length > itemsMax)
    throw new AppError('TOO_LARGE', `for_each has ${resolved.length} items; ${itemsMax} is the limit.`)
  return resolved
}

async function read(tx: Tx, claim: Claim) {
  const [row] = await tx
    .select({ step: runStep, run: pipelineRun, tenant, limits: tenantLimit, version: pipelineVersion })
    .from(runStep)
    .innerJoin(pipelineRun, and(eq(pipelineRun.tenantId, runStep.tenantId), eq(pipelineRun.runId, runStep.runId)))
    .innerJoin(tenant, eq(tenant.id, runStep.tenantId))
    .innerJoin(tenantLimit, eq(tenantLimit.tenantId, runStep.tenantId))
    .innerJoin(
      pipelineVersion,
      and(
        eq(pipelineVersion.tenantId, runStep.tenantId),
        eq(pipelineVersion.pipelineId, pipelineRun.pipelineId),
        eq(pipelineVersion.version, pipelineRun.pipelineVersion),
      ),
    )
    .where(
      and(eq(runStep.tenantId, claim.tenantId), eq(runStep.runId, claim.runId), eq(runStep.stepKey, claim.stepKey)),
    )
  if (!row) throw new AppError('NOT_FOUND', 'The step, its pipeline or its tenant is gone.')
  return row
}

type Read = Awaited<ReturnType<typeof read>>

function isFeatureOn({ step, tenant }: Read): boolean {
  const feature = featureOfProcessor[step.psType]
  if (feature === undefined || isOn(feature, tenant.features)) return true
  if (features[feature].setBy === 'tenant') return false
  throw new AppError('FEATURE_OFF', `The feature ${feature} is off for this tenant.`)
}

async function refuseFullStorage(tx: Tx, { tenant, limits }: Read): Promise<void> {
  const [usage] = await tx
    .select({ used: tenantUsage.used })
    .from(tenantUsage)
    .where(and(eq(tenantUsage.tenantId, tenant.id), eq(tenantUsage.quota, 'storageBytes'), eq(tenantUsage.period, '')))
  if (!usage || usage.used < limits.diskBytes) return
  throw new AppError('QUOTA_EXCEEDED', `The storage is used up: ${usage.used} of ${limits.diskBytes} bytes.`, {
    retry: 'never',
    hint: 'Delete files (file.delete) or raise the plan, then retry the step.',
  })
}

function valuesOf(
  row: Read,
  results: Result[],
  claim: Claim,
): { pipelineId: string; when: boolean | string | undefined; all: Record<string, OutputValue> } {
  const parsed = parsePipeline(row.version.yaml)
  if (!('pipeline' in parsed))
    throw new AppError('CONFIG_INVALID', 'The saved pipeline is not usable with this version.')
  const profile = { admin_email: row.tenant.adminEmail, company_name: row.tenant.companyName }
  const variables = variableValues({
    pipeline: parsed.pipeline,
    builtins: {
      tenant_id: row.tenant.id,
      run_id: claim.runId,
      trigger: row.run.triggerKind,
      datetime: row.run.createdAt.toISOString(),
    },
    profile,
    // Written by the control plane from checked parameters, hence JSON values only.
    parameters: row.run.parameters as Record<string, OutputValue>,
  })
  // What a step left is JSON, as its processor's StepResult was.
  const steps = Object.fromEntries(
    results.filter(({ parent }) => parent === null).map(({ key, result }) => [key, outputsOf(key, result, results)]),
  )
  const failure = row.run.error
  return {
    pipelineId: pipelineName(parsed.pipeline, row.tenant.id, profile),
    when: parsed.pipeline.steps.find((step) => step.step_id === (row.step.parentStep ?? claim.stepKey))?.when,
    all: {
      ...variables,
      steps,
      ...(row.step.parentStep === null ? {} : itemValues(row.step)),
      ...(failure ? { failure: { step_id: failure.step, code: failure.code, message: failure.message } } : {}),
    },
  }
}

type Result = { key: string; result: Record<string, unknown> | null; parent: string | null }

// A step that fanned out gives what its children put out as a list, in the order of their items.
function outputsOf(key: string, result: Result['result'], results: Result[]): OutputValue {
  const own = (result ?? {}) as Record<string, OutputValue>
  const children = results.filter(({ parent }) => parent === key)
  if (children.length === 0) return own
  const items = children
    .toSorted((a, b) => indexOf(a.key) - indexOf(b.key))
    .map((child) => (child.result ?? {}) as OutputValue)
  return { ...own, items }
}

const itemValues = (step: { stepKey: string; item: unknown }): Record<string, OutputValue> => ({
  // Items come from a checked list or from what a step put out: JSON both.
  item: step.item as OutputValue,
  item_index: indexOf(step.stepKey),
})

// The key of a child is `<step>[<index>]`.
const indexOf = (key: string): number => Number(/\[(\d+)\]$/.exec(key)?.[1] ?? 0)

async function openCredential(
  tx: Tx,
  ports: Ports,
  claim: Claim,
  { run, step }: Read,
  providers: readonly string[],
): Promise<unknown> {
  const name = step.credential
  // A test opens what nothing else may use yet.
  const isTest = run.triggerKind === 'check' || run.triggerKind === 'activate'
  const found = await openStored(tx, ports.secrets, async () => {
    const row =
      name === null
        ? await onlyCredential(tx, claim, providers)
        : await namedCredential(tx, claim.tenantId, name, isTest)
    return row && { ...row, owner: { tenantId: claim.tenantId, credentialId: row.id, version: row.version } }
  })
  if (!found) return null
  await audit(tx, {
    tenantId: claim.tenantId,
    actor: `worker:${step.leaseOwner ?? 'unknown'}`,
    action: 'credential.opened',
    target: found.row.id,
    details: { runId: claim.runId, step: claim.stepKey, attempt: claim.attempt, version: found.row.version },
  })
  return found.secret
}

/** The tenant's credential of this name, if it may be used. Throws CREDENTIAL_MISSING. */
export async function namedCredential(tx: Tx, tenantId: string, name: string, isTest = false): Promise<CredentialRow> {
  const [row] = await tx
    .select()
    .from(credential)
    .where(and(eq(credential.tenantId, tenantId), eq(credential.name, name)))
  if (!row) throw new AppError('CREDENTIAL_MISSING', `There is no credential named ${JSON.stringify(name)}.`)
  if (row.status === 'active' || isTest) return row
  throw new AppError(
    'CREDENTIAL_MISSING',
    row.status === 'pending'
      ? `The credential ${JSON.stringify(name)} waits for its test.`
      : `The credential ${JSON.stringify(name)} failed its test.`,
    { hint: 'See its status and problem; a new value by updateCredential takes effect at once.' },
  )
}

// A step that names none means the one that the tenant has. Of two, none is chosen: the wrong one would write elsewhere.
async function onlyCredential(tx: Tx, claim: Claim, providers: readonly string[]): Promise<CredentialRow | undefined> {
  const [provider] = providers
  if (provider === undefined || providers.length > 1) return undefined
  const rows = await tx
    .select()
    .from(credential)
    .where(
      and(eq(credential.tenantId, claim.tenantId), eq(credential.provider, provider), eq(credential.status, 'active')),
    )
    .limit(2)
  if (rows.length > 1)
    throw new AppError('CREDENTIAL_MISSING', `The tenant has several credentials for ${provider}.`, {
      hint: 'Choose one of them in the step: credential: <name>.',
    })
  return rows[0]
}
