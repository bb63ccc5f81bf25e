import { parentPort } from 'node:worker_threads'
import { z } from 'zod'
import { type SimDatabase, simDatabase } from './database.ts'
import { plants } from './plants.ts'
import { simulate } from './simulate.ts'

/** Work for one thread: some seeds, or the seeds until one finds a planted fault. */
export const task = z.union([
  z.strictObject({ from: z.number(), seeds: z.number() }),
  z.strictObject({ plant: z.number(), from: z.number(), seeds: z.number() }),
])
/** A task. */
export type Task = z.output<typeof task>
/** What came of it; `seeds` are those that found something, with what they found. */
export type TaskResult = { runs: number; calls: number; seeds: { seed: number; broken: string[] }[] }

// One for all tasks of a thread: to open one takes as long as a dozen seeds.
let opened: Promise<SimDatabase> | undefined

/** Does a task in this thread's database. */
export async function doTask(given: Task): Promise<TaskResult> {
  const isHunt = 'plant' in given
  const sim = await (opened ??= simDatabase())
  const plant = isHunt ? plants[given.plant] : undefined
  await using _planted = plant ? await sim.plant(plant) : undefined
  const done: TaskResult = { runs: 0, calls: 0, seeds: [] }
  const { from } = given
  for (let seed = from; seed < from + given.seeds; seed++) {
    const { runs, calls, broken } = await simulate(sim, seed)
    await sim.clear()
    done.runs += runs
    done.calls += calls
    if (broken.length > 0) done.seeds.push({ seed, broken })
    if (isHunt && broken.length > 0) break
  }
  return done
}

parentPort?.on('message', async (given: unknown) => parentPort?.postMessage(await doTask(task.parse(given))))
