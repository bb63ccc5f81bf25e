import { type ChildProcess, spawn } from 'node:child_process'
import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { type Client, graphqlClient } from '../../standalone/client.ts'
import type { openPorts } from '../../standalone/ports.ts'
import { type Standalone, startStandalone } from '../../standalone/start.ts'
import { keepDatabase } from './database.ts'
import type { TestSftp } from './hostile-sftp.ts'
import { keepLine, leave } from './keep.ts'
import { putCluster } from './template.ts'

// oxlint-disable-next-line typescript/no-explicit-any -- tests look into answers whose documents stand beside them
type Loose = any

/** A run as a test looks at it. */
export type SeenRun = {
  id: string
  state: string
  error: { code: string; message: string; hint: string; stepKey: string } | null
  steps: {
    key: string
    state: string
    attempt: number
    outputs: Record<string, Loose>
    error: { code: string; message: string } | null
  }[]
}

/** A tenant of a world, through the public API. */
export type TestTenant = {
  id: string
  client: Client
  /** Puts a file into the tenant's folder. */
  put(path: string, content: string): Promise<void>
  /** The text of a file of the tenant's folder. */
  read(path: string): Promise<string>
  /** Saves a pipeline under a path. */
  save(path: string, yaml: string): Promise<void>
  /** Starts a run and answers its id. */
  start(path: string, parameters?: Record<string, unknown>, idempotencyKey?: string): Promise<string>
  /** Waits until a run has ended. */
  ended(runId: string): Promise<SeenRun>
  see(runId: string): Promise<SeenRun>
  /** Starts a run and waits until it has ended. */
  run(path: string, parameters?: Record<string, unknown>): Promise<SeenRun>
  cancel(runId: string): Promise<void>
  retry(runId: string, fromStep?: string): Promise<void>
  /** Waits for the first event of a run that fits. */
  event(runId: string, type: string, stepKey?: string): Promise<Record<string, Loose>>
  /** Rows of a query over the tenant's lake, by an export step and its file. */
  rows(query: string): Promise<Loose[]>
  /** Stores the credential `name` for an SFTP server. */
  credential(name: string, provider: string, secret: object): Promise<void>
}

/** A tenant of a world with its administrator's key. */
export type OpenTenant = TestTenant & { token: string }

/** Where a house can be reached. */
export type House = { url: string; platformKey: string; dataDir: string }

/** Both sides in this process, over a folder that goes with it. */
export async function world(
  open?: typeof openPorts,
): Promise<AsyncDisposable & { house: Standalone; tenant(id: string): Promise<OpenTenant> }> {
  const dataDir = await mkdtemp(join(tmpdir(), 'world-'))
  await putCluster(dataDir)
  const house = await startStandalone(
    {
      dataDir,
      host: '127.0.0.1',
      port: 0,
      logLevel: process.env['TEST_LOG'] ?? 'silent',
      development: false,
      allowPrivateNetwork: true,
    },
    open,
  )
  return {
    house,
    tenant: (id) => onboard(house, id),
    async [Symbol.asyncDispose]() {
      await keepDatabase(house.ports.db)
      await house.stop(0)
      await leave(dataDir)
    },
  }
}

/** A house in a process of its own, which can be killed. */
export type SpawnedHouse = House & {
  process: ChildProcess
  /** The exit code, when it has ended. */
  ended: Promise<number | null>
  kill(): Promise<void>
}

/** Starts `standalone/main.ts` over a folder and waits until it is up. */
export async function spawnHouse(dataDir: string): Promise<SpawnedHouse> {
  const main = fileURLToPath(new URL('../../standalone/main.ts', import.meta.url))
  const child = spawn(process.execPath, [main, '--no-demo'], {
    env: { ...process.env, TRIBUTARY_DATA_DIR: dataDir, PORT: '0', LOG_LEVEL: 'silent' },
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  })
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const url = await new Promise<string>((resolve, reject) => {
    void ended.then(() => reject(new Error('the process ended before it was up')))
    createInterface({ input: child.stdout }).on('line', (line) => {
      const found = /up at (http:\S+)/.exec(line)
      if (found?.[1]) resolve(found[1])
    })
  })
  return {
    url,
    dataDir,
    platformKey: (await readFile(join(dataDir, 'platform-api-key'), 'utf8')).trim(),
    process: child,
    ended,
    async kill() {
      child.kill('SIGKILL')
      await ended
    },
  }
}

/** Onboards a tenant through the API. */
export async function onboard(house: House, tenantId: string, sftp?: TestSftp): Promise<OpenTenant> {
  const platform = graphqlClient(house.url, house.platformKey)
  const { onboardTenant } = (await platform.request(
    'mutation ($input: OnboardTenantInput!) { onboardTenant(input: $input) { token errors { code message } } }',
    {
      input: {
        tenantId,
        name: tenantId,
        companyName: `${tenantId} Ltd`,
        adminEmail: `admin@${tenantId.replaceAll('_', '-')}.example`,
        plan: 'SCALE',
        ...(sftp ? { sftp: { ...sftp.secret, remoteDirectory: '.' } } : {}),
      },
    },
  )) as Loose
  if (!onboardTenant.token) throw new Error(JSON.stringify(onboardTenant.errors))
  return openTenant(house, tenantId, onboardTenant.token)
}

/** A tenant that is onboarded already, by its token. */
export function openTenant(house: House, id: string, token: string): OpenTenant {
  const client = graphqlClient(house.url, token)
  const folder = join(house.dataDir, 'tenants', id, 'files')
  const ask = async (document: string, variables: Record<string, unknown>): Promise<Loose> => {
    const data: Loose = await client.request(document, variables)
    keepLine('answers', JSON.stringify(data))
    const [error] = data.result?.errors ?? []
    if (error) throw new Error(`${error.code}: ${error.message}`)
    return data.result
  }
  let reads = 0

  const tenant: OpenTenant = {
    id,
    token,
    client,
    async put(path, content) {
      await mkdir(dirname(join(folder, path)), { recursive: true })
      await writeFile(join(folder, path), content)
    },
    read: (path) => readFile(join(folder, path), 'utf8'),
    async save(path, yaml) {
      await ask(
        'mutation ($input: SavePipelineInput!) { result: savePipeline(input: $input) { errors { code message } } }',
        { input: { path, yaml } },
      )
    },
    async start(pipeline, parameters = {}, idempotencyKey) {
      const result = await ask(
        'mutation ($input: RunPipelineInput!) { result: runPipeline(input: $input) { run { id } errors { code message } } }',
        {
          input: { pipeline, parameters, ...(idempotencyKey ? { idempotencyKey } : {}) },
        },
      )
      return result.run.id
    },
    see: (runId) =>
      ask(
        `query ($id: ID!) { result: run(id: $id) { id state error { code message hint stepKey }
          steps { key state attempt outputs error { code message } } } }`,
        { id: runId },
      ),
    async ended(runId) {
      // The stream ends by itself with a run that has ended; one that was cut for its age is opened again.
      for (;;) {
        for await (const _ of client.subscribe(watchQuery, { runId, after: 0 }));
        const run = await tenant.see(runId)
        if (/SUCCEEDED|FAILED|CANCELLED|TIMED_OUT/.test(run.state)) return run
      }
    },
    async run(path, parameters) {
      return tenant.ended(await tenant.start(path, parameters))
    },
    async cancel(runId) {
      await ask('mutation ($input: CancelRunInput!) { result: cancelRun(input: $input) { errors { code message } } }', {
        input: { id: runId },
      })
    },
    async retry(runId, fromStep) {
      await ask('mutation ($input: RetryRunInput!) { result: retryRun(input: $input) { errors { code message } } }', {
        input: { id: runId, ...(fromStep ? { fromStep } : {}) },
      })
    },
    event: (runId, type, stepKey) =>
      untilEvent(
        client,
        runId,
        (event) => event['type'] === type && (stepKey === undefined || event['stepKey'] === stepKey),
      ),
    async rows(query) {
      const path = `out/rows-${++reads}.json`
      const text = [
        'pipeline_id: rows',
        'steps:',
        '  - step_id: rows',
        '    ps_type: file.export',
        '    source:',
        `      query: ${JSON.stringify(query)}`,
      ]
      await tenant.save(
        'test/support/rows',
        [...text, '    destination:', `      path: ${path}`, '      format: json', ''].join('\n'),
      )
      const run = await tenant.run('test/support/rows')
      if (run.state !== 'SUCCEEDED') throw new Error(`${query}: ${run.error?.message}`)
      return JSON.parse(await tenant.read(path))
    },
    async credential(name, provider, secret) {
      await ask(
        'mutation ($input: CreateCredentialInput!) { result: createCredential(input: $input) { errors { code message } } }',
        {
          input: { name, provider, secret },
        },
      )
    },
  }
  return tenant
}

const watchQuery =
  'subscription ($runId: ID!, $after: Int) { runEvents(runId: $runId, after: $after) { seq type stepKey data } }'

// A stream may end before its run; the reader goes on after the last event it saw.
async function untilEvent(
  client: Client,
  runId: string,
  fits: (event: Record<string, Loose>) => boolean,
): Promise<Record<string, Loose>> {
  let after = 0
  for (;;) {
    for await (const data of client.subscribe(watchQuery, { runId, after })) {
      const event: Loose = data['runEvents']
      keepLine('answers', JSON.stringify(event))
      after = event.seq
      if (fits(event)) return event
    }
  }
}
