import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { Worker } from 'node:worker_threads'
import { result } from '../../../bench/result.ts'
import { plants } from './plants.ts'
import type { Task, TaskResult } from './task.ts'

const help = `Simulates workers, housekeepers and operators over the real ledger in virtual time, with faults at every call.

  --seeds <n>    how many seeds (default 500)
  --from <n>     the first seed (default 1)
  --no-plants    leave out the search for planted faults
  --help

A seed that breaks something is printed with what it broke; --from <seed> --seeds 1 does it again.`

// Each planted fault shows in one seed of fifteen or more often; one that hides for so many is not found.
const seedsPerPlant = 150
const seedsPerTask = 25

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '500' },
    from: { type: 'string', default: '1' },
    'no-plants': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) console.log(help)
else process.exitCode = (await prove(Number(values.from), Number(values.seeds), !values['no-plants'])) ? 0 : 1

async function prove(from: number, seeds: number, withPlants: boolean): Promise<boolean> {
  const started = performance.now()
  const tasks: Task[] = []
  for (let at = from; at < from + seeds; at += seedsPerTask)
    tasks.push({ from: at, seeds: Math.min(seedsPerTask, from + seeds - at) })
  const done = await inThreads(tasks)
  const broken = done.flatMap((one) => one.seeds)
  for (const one of broken) console.log(`seed ${one.seed}:\n  ${one.broken.join('\n  ')}`)
  const sum = (of: 'runs' | 'calls'): number => done.reduce((total, one) => total + one[of], 0)
  console.log(`${seeds} seeds: ${sum('runs')} runs, ${sum('calls')} calls`)
  result('simulated_seconds', (performance.now() - started) / 1000, 's')
  const isWhole = result('simulated_seeds_broken', broken.length, 'seeds', { op: '<=', value: 0 })
  return withPlants ? (await hunt(from)) && isWhole : isWhole
}

async function hunt(from: number): Promise<boolean> {
  const hunts = await inThreads(plants.map((_, plant) => ({ plant, from, seeds: seedsPerPlant })))
  for (const [index, { seeds }] of hunts.entries()) {
    const [first] = seeds
    console.log(`${first ? `found with seed ${first.seed}` : 'NOT FOUND'}: ${plants[index]?.name}`)
  }
  const found = hunts.filter((one) => one.seeds.length > 0).length
  return result('planted_faults_found', found, 'faults', { op: '>=', value: plants.length })
}

// Answers in the order of the tasks; a thread takes the next task when it is done with one.
async function inThreads(tasks: readonly Task[]): Promise<TaskResult[]> {
  const results: TaskResult[] = []
  const waiting = [...tasks.entries()]
  await Promise.all(
    Array.from({ length: Math.min(availableParallelism(), 4, tasks.length) }, async () => {
      const thread = new Worker(new URL('task.ts', import.meta.url))
      for (let next = waiting.shift(); next; next = waiting.shift()) results[next[0]] = await ask(thread, next[1])
      await thread.terminate()
    }),
  )
  return results
}

function ask(thread: Worker, task: Task): Promise<TaskResult> {
  const { promise, resolve, reject } = Promise.withResolvers<TaskResult>()
  thread.once('message', resolve)
  thread.once('error', reject)
  thread.postMessage(task)
  return promise.finally(() => thread.off('error', reject))
}
