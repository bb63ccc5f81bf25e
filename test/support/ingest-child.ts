// A process of its own that loads one file into a lake; a test kills it at some moment. Arguments: folder, file, fence and,
// by choice, the run and the contract.
import { join } from 'node:path'
import { mkdir } from 'node:fs/promises'
import { tenantFiles } from '../../workers/files.ts'
import { openLake } from '../../workers/lake/open.ts'
import { lakeStore } from './lake-store.ts'
import ingest from '../../workers/processors/file/ingest.ts'

const [folder = '', path = '', fence = '1', runId = 'run_1', contract] = process.argv.slice(2)
const limits = { memoryBytes: 1 << 30, threads: 1, diskBytes: 2 ** 31 }
const files = tenantFiles(join(folder, 'files'))
const workRoot = join(folder, `work-${fence}`)
const workDir = join(workRoot, 'step')
await mkdir(workDir, { recursive: true })
const lake = await openLake({ ...lakeStore(folder), filesRoot: files.root, workRoot, limits })
process.stdout.write('open\n')
const result = await ingest.run(
  {
    tenant: { id: 'guru', companyName: 'Guru', adminEmail: 'admin@guru.example' },
    run: { id: runId, pipelineId: 'p', trigger: 'manual', actor: 'usr_1' },
    step: { key: 'ingest', attempt: Number(fence), cycle: 0, fence: BigInt(fence) },
    lake,
    files,
    workDir,
    limits,
    allowPrivateNetwork: false,
    bindSql: (text) => ({ text, values: [] }),
    secret: () => {
      throw new Error('no secret here')
    },
    progress: () => {},
    log: () => {},
    signal: new AbortController().signal,
  },
  ingest.settings.parse({
    source: { path },
    destination: { table: 'orders', business_key: ['id'], ...(contract ? { contract } : {}) },
  }),
)
process.stdout.write(`${JSON.stringify(result.outputs)}\n`)
await lake.close()
