import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { DuckDBInstance } from '@duckdb/node-api'
import { ZipArchive } from 'archiver'
import pg from 'pg'
import { to } from 'pg-copy-streams'
import SftpClient from 'ssh2-sftp-client'
import { z } from 'zod'
import { orderColumns, ordersQuery } from './orders.ts'

// The bound: the same stages with the same libraries and nothing around them. No platform, no tenants, no checks, no
// quarantine, no read-back; one process that dies with its data. It prints seconds by stage as JSON.
const job = z
  .object({ url: z.string(), folder: z.string(), sftp: z.record(z.string(), z.unknown()), remote: z.string() })
  .parse(JSON.parse(await readFile(process.argv[2] ?? '', 'utf8')))
const seconds: Record<string, number> = {}
const columns = Object.keys(orderColumns)

await mkdir(job.folder, { recursive: true })
const instance = await DuckDBInstance.create(join(job.folder, 'bare.duckdb'), { threads: '2' })
const duck = await instance.connect()
await duck.run("set preserve_insertion_order = false; set TimeZone = 'UTC'")
const csv = join(job.folder, 'orders.csv')
const zip = join(job.folder, 'orders.zip')
await stage('load', load)
await stage('export', () =>
  duck.run(`copy (select ${columns.join(', ')} from orders where is_current) to '${csv}' (format csv, header)`),
)
await stage('zip', compress)
await stage('upload', upload)
console.log(JSON.stringify({ seconds, rows: await countRows(), bytes: (await stat(zip)).size }))
duck.closeSync()
instance.closeSync()

async function stage(name: string, work: () => Promise<unknown>): Promise<void> {
  const startedAt = performance.now()
  await work()
  seconds[name] = (performance.now() - startedAt) / 1000
}

// COPY into files of 128 MB that load while the next one is written; versions, keys and hashes are made in the load.
async function load(): Promise<void> {
  const client = new pg.Client({ connectionString: job.url })
  await client.connect()
  await client.query("set timezone = 'UTC'")
  await duck.run(`create table orders (org_id varchar, composite_key varchar, ${Object.entries(orderColumns)
    .map(([name, type]) => `${name} ${type}`)
    .join(', ')},
    version int, data_hash blob, change_type varchar, ingested_at timestamptz, is_current bool, is_deleted bool)`)
  let loading: Promise<unknown> = Promise.resolve()
  for await (const file of chunks(client.query(to(`copy (${ordersQuery}) to stdout (format csv)`)))) {
    await loading
    loading = duck.run(insertFrom(file)).then(() => rm(file))
  }
  await loading
  await duck.run('checkpoint')
  await client.end()
}

function insertFrom(file: string): string {
  return `
  insert into orders select 'bench', 'org_bench_orders_' || order_id, ${columns.join(', ')}, 1,
    unhex(sha256(concat_ws(chr(31), ${columns.map((name) => `coalesce(${name}::varchar, chr(29))`).join(', ')}))), 'INSERT', now(), true, false
  from read_csv('${file}', header = false, auto_detect = false, delim = ',', quote = '"', escape = '"', allow_quoted_nulls = false,
    columns = {${Object.entries(orderColumns)
      .map(([name, type]) => `'${name}': '${type}'`)
      .join(', ')}})`
}

// The bench's rows hold no line breaks, so every newline ends a record.
async function* chunks(stream: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const bytesPerFile = 128 * 2 ** 20
  let index = 0
  let bytes = 0
  const next = () => createWriteStream(join(job.folder, `part-${index++}.csv`), { highWaterMark: 1 << 20 })
  let out = next()
  for await (const chunk of stream) {
    const cut = bytes > bytesPerFile ? chunk.lastIndexOf(10) + 1 : 0
    if (cut > 0) {
      out.end(chunk.subarray(0, cut))
      const { path } = out
      await new Promise<void>((resolve) => out.once('close', resolve))
      yield String(path)
      out = next()
      bytes = 0
    }
    const rest = chunk.subarray(cut)
    bytes += rest.length
    if (!out.write(rest)) await new Promise<void>((resolve) => out.once('drain', resolve))
  }
  const closed = new Promise<void>((resolve) => out.once('close', resolve))
  out.end()
  await closed
  yield String(out.path)
}

async function compress(): Promise<void> {
  const archive = new ZipArchive({ zlib: { level: 1 } })
  const written = pipeline(archive, createWriteStream(zip))
  archive.append(createReadStream(csv, { highWaterMark: 1 << 20 }), { name: 'orders.csv' })
  await archive.finalize()
  await written
}

async function upload(): Promise<void> {
  const client = new SftpClient()
  await client.connect({ ...job.sftp, algorithms: { cipher: ['aes128-gcm@openssh.com', 'aes128-ctr'] } })
  // The client hides its socket; without this every write waits for an acknowledgement.
  const { client: ssh } = client as unknown as { client: { setNoDelay(on: boolean): void } }
  ssh.setNoDelay(true)
  await client.fastPut(zip, job.remote, { concurrency: 16, chunkSize: 258_048 })
  await client.end()
}

async function countRows(): Promise<number> {
  const reader = await duck.runAndReadAll('select count(*) from orders')
  return Number(reader.getRows()[0]?.[0] ?? 0)
}
