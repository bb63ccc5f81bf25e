/** Light pipelines over all that a run can leave: rows, files, and files that are gone. Each run leaves its own. */
export const pipelines: Readonly<Record<string, string>> = {
  'chaos/land/chain': `
pipeline_id: chain
retry: { attempts: 10, initial: 200ms, max: 1s }
steps:
  - step_id: land
    ps_type: sql.transform
    query: "SELECT '{run_id}' AS run, range AS n FROM range(7)"
    destination: { table: landed, mode: append }
  - step_id: check
    ps_type: quality.check
    table: landed
    rules:
      - { rule: required, columns: [run, n] }
  - step_id: file
    ps_type: file.export
    source: { query: "SELECT run, n FROM landed WHERE run = '{run_id}' ORDER BY n" }
    destination: { path: "out/{run_id}.csv", format: csv }
  - step_id: draft
    ps_type: file.export
    source: { query: "SELECT 1 AS x" }
    destination: { path: "tmp/{run_id}.csv", format: csv }
  - step_id: tidy
    ps_type: file.delete
    paths: ["tmp/{run_id}.csv"]
`,
  'chaos/land/fan': `
pipeline_id: fan
retry: { attempts: 10, initial: 200ms, max: 1s }
steps:
  - step_id: land
    ps_type: sql.transform
    query: "SELECT '{run_id}' AS run, range AS n FROM range(3)"
    destination: { table: landed, mode: append }
  - step_id: more
    depends_on: [land]
    ps_type: sql.transform
    query: "SELECT '{run_id}' AS run, range + 3 AS n FROM range(4)"
    destination: { table: landed, mode: append }
  - step_id: draft
    depends_on: [land]
    ps_type: file.export
    source: { query: "SELECT 1 AS x" }
    destination: { path: "tmp/{run_id}.csv", format: csv }
  - step_id: file
    depends_on: [more]
    ps_type: file.export
    source: { query: "SELECT run, n FROM landed WHERE run = '{run_id}' ORDER BY n" }
    destination: { path: "out/{run_id}.csv", format: csv }
  - step_id: tidy
    depends_on: [draft, file]
    ps_type: file.delete
    paths: ["tmp/{run_id}.csv"]
  - step_id: unwanted
    trigger: on_failure
    ps_type: sql.transform
    query: "SELECT 1 AS x"
    destination: { table: failures, mode: append }
`,
}

/** One step that lasts for seconds. */
export const slowPath = 'chaos/slow/one'

/** Those, and the slow one. */
export const allPipelines: Readonly<Record<string, string>> = {
  ...pipelines,
  [slowPath]: `
pipeline_id: slow
retry: { attempts: 10, initial: 200ms, max: 1s }
steps:
  - step_id: slow
    ps_type: sql.transform
    query: "SELECT '{run_id}' AS run, sum(hash(range) % 7) AS n FROM range(600000000)"
    destination: { table: slow, mode: append }
`,
}

/** Names of the pipelines that leave rows and a file. */
export const pipelinePaths = Object.keys(pipelines)

/** Rows that each run leaves in `landed`. */
export const rowsPerRun = 7

/** How many steps of a pipeline write rows, and so a receipt. */
export const loadsOf = (path: string): number => (path === 'chaos/land/fan' ? 2 : 1)

/** The file that a run leaves, byte for byte. */
export const fileOf = (runId: string): string =>
  `run,n\n${Array.from({ length: rowsPerRun }, (_, n) => `${runId},${n}\n`).join('')}`
