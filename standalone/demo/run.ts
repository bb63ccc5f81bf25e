import { copyFile, mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { type Client, graphqlClient } from '../client.ts'
import type { Standalone } from '../start.ts'
import { datasetFile } from './dataset.ts'
import { executeRun } from './execute.ts'
import { openMemory } from './memory.ts'
import { type Partner, startPartners } from './partners.ts'
import { type ExpectedChanges, writePlaces } from './places.ts'
import { printNext, printSummary, type RunSummary } from './print.ts'

// Two customers of the demo's operator, each with a partner of its own on the far end.
const tenants: Record<string, { name: string; companyName: string; adminEmail: string }> = {
  guru_232342: { name: 'Guru', companyName: 'Guru Corp', adminEmail: 'admin@guru.example' },
  northwind_air: { name: 'Northwind', companyName: 'Northwind Air', adminEmail: 'admin@northwind.example' },
}
const runs = [
  { tenantId: 'guru_232342', pipeline: 'demo/places/daily', date: '2026-01-01' },
  { tenantId: 'guru_232342', pipeline: 'demo/places/daily', date: '2026-01-02' },
  { tenantId: 'northwind_air', pipeline: 'demo/flights/monthly', date: '2001-06-30' },
]

/**
 * The demo, as a client of the public API: onboards its tenants, puts real data into their folders, runs the pipelines
 * and prints progress and summaries. What is done already is not done again; a demo that was cut off is finished.
 * True when every file was delivered and the counts are those that the data was made to give.
 */
export async function runDemo(house: Standalone, launchedAt: number): Promise<boolean> {
  const memory = openMemory(join(house.dataDir, 'demo.json'))
  const partners = await startPartners(house.dataDir, Object.keys(tenants), memory)
  const clients = new Map<string, Client>()
  for (const [tenantId, partner] of partners)
    clients.set(tenantId, graphqlClient(house.url, await onboard(house, tenantId, partner, memory)))
  const next = { url: house.url, token: memory.value.tokens['guru_232342'] ?? '', dataDir: house.dataDir }
  if (memory.value.finished) {
    console.log('The demo has run in this folder before; its runs and files are kept.')
    printNext(next)
    return true
  }
  const expected = await placeFiles(house.dataDir)
  const summaries: RunSummary[] = []
  for (const run of runs) {
    const client = clients.get(run.tenantId)
    if (!client) throw new Error(`no client for ${run.tenantId}`)
    console.log(`${run.tenantId}  ${run.pipeline}  ${run.date}`)
    const summary = await executeRun(client, run)
    printSummary(summary)
    summaries.push(summary)
    if (summaries.length === 1) console.log(`First verified file ${seconds(launchedAt)} s after the start.\n`)
  }
  const faults = [
    ...summaries.filter((run) => run.state !== 'SUCCEEDED').map((run) => `${run.title} ended ${run.state}`),
    ...countFaults(summaries[1], expected),
  ]
  for (const fault of faults) console.error(`NOT AS EXPECTED: ${fault}`)
  if (faults.length === 0) {
    memory.change({ finished: true })
    console.log(`All files delivered and verified ${seconds(launchedAt)} s after the start.`)
  }
  printNext(next)
  return faults.length === 0
}

const seconds = (since: number): string => ((performance.now() - since) / 1000).toFixed(1)

async function onboard(
  house: Standalone,
  tenantId: string,
  partner: Partner,
  memory: ReturnType<typeof openMemory>,
): Promise<string> {
  const known = memory.value.tokens[tenantId]
  if (known !== undefined) return known
  const platform = graphqlClient(house.url, house.platformKey)
  const input = {
    tenantId,
    ...tenants[tenantId],
    plan: 'SCALE',
    sftp: {
      host: '127.0.0.1',
      port: partner.server.port,
      username: partner.username,
      password: partner.password,
      hostKey: partner.server.hostKeyFingerprint,
      remoteDirectory: 'inbox',
    },
  }
  const made = await platform.request(
    'mutation ($input: OnboardTenantInput!) { result: onboardTenant(input: $input) { token tenant { status provisioned } errors { code message hint } } }',
    { input },
  )
  const onboarded = onboardAnswer.parse(made).result
  const [fault] = onboarded.errors
  if (fault) throw new Error(`${fault.code}: ${fault.message}`)
  // A token is shown once; a demo that was cut off right after it gets another key.
  const token = onboarded.token ?? (await anotherKey(platform, tenantId))
  memory.change({ tokens: { ...memory.value.tokens, [tenantId]: token } })
  console.log(`${tenantId}  onboarded: ${onboarded.tenant?.provisioned.join(' → ')}`)
  return token
}

const fault = z.object({ code: z.string(), message: z.string() })
const onboardAnswer = z.object({
  result: z.object({
    token: z.string().nullable(),
    tenant: z.object({ provisioned: z.array(z.string()) }).nullable(),
    errors: z.array(fault),
  }),
})
const keyAnswer = z.object({ result: z.object({ token: z.string().nullable(), errors: z.array(fault) }) })

async function anotherKey(platform: Client, tenantId: string): Promise<string> {
  const made = await platform.request(
    'mutation ($input: CreateApiKeyInput!) { result: createApiKey(input: $input) { token errors { code message } } }',
    { input: { tenantId, name: 'demo' } },
  )
  const { token, errors } = keyAnswer.parse(made).result
  if (token === null) throw new Error(errors.map((error) => `${error.code}: ${error.message}`).join('\n'))
  return token
}

// The files appear under their final names whole, as a careful sender would put them there.
async function placeFiles(dataDir: string): Promise<ExpectedChanges> {
  const inbox = (tenantId: string): string => join(dataDir, 'tenants', tenantId, 'files', 'in')
  const places = inbox('guru_232342')
  const flights = inbox('northwind_air')
  for (const folder of [places, flights]) await mkdir(folder, { recursive: true, mode: 0o700 })
  const draft = await mkdtemp(join(dataDir, 'draft-'))
  try {
    const { day1, day2, expected } = await writePlaces(draft)
    await rename(day1, join(places, 'places-2026-01-01.csv'))
    await rename(day2, join(places, 'places-2026-01-02.csv'))
    await copyFile(datasetFile('flights-3m.parquet'), join(draft, 'flights.parquet'))
    await rename(join(draft, 'flights.parquet'), join(flights, 'flights.parquet'))
    return expected
  } finally {
    await rm(draft, { recursive: true, force: true })
  }
}

function countFaults(day2: RunSummary | undefined, expected: ExpectedChanges): string[] {
  const counts = day2?.steps.find((step) => step.key === 'ingest')?.outputs ?? {}
  const rejected = Object.values(expected.rejected).reduce((sum, count) => sum + count, 0)
  const wanted = {
    inserted: expected.inserted,
    updated: expected.updated,
    deleted: expected.deleted,
    unchanged: expected.unchanged,
    rejected,
  }
  return Object.entries(wanted)
    .filter(([name, count]) => counts[name] !== count)
    .map(([name, count]) => `day 2 has ${String(counts[name])} ${name}, not ${count}`)
}
