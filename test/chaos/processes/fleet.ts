import { type ChildProcess, fork } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** What a worker process is started with. */
export type WorkerStart = { url: string; dataDir: string; leaseMs: number; seed: number; skewMs: number }

/** A worker process. `id` is that of the worker in it. */
export type Running = { id: string; pid: number; child: ChildProcess; isStopped: boolean }

/** Worker processes that can be killed and stopped. */
export type Fleet = AsyncDisposable & {
  running(): Running[]
  /** How many lines of each event the workers have logged. */
  logged: Map<string, number>
  /** Kills one at once and starts another in its place `afterMs` later. */
  kill(one: Running, afterMs: number): Promise<void>
  /** Holds one up for so long; with its tenants' processes, as a machine that stands still, or without them. */
  hold(one: Running, ms: number, withTenants: boolean): void
  /** Lets all end by themselves. */
  stop(): Promise<void>
}

const entry = fileURLToPath(new URL('worker-entry.ts', import.meta.url))
// Hours: what a machine has whose clock was never set.
const skews = [0, 3_600_000, -7_200_000, 0]

/** Starts `count` workers. Wakes and clocks of those and of all that follow are those of `seed`. */
export async function startFleet(options: Omit<WorkerStart, 'skewMs'>, count: number): Promise<Fleet> {
  const all = new Set<Running>()
  const logged = new Map<string, number>()
  const starting = new Set<Promise<void>>()
  const places = new Map<Running, number>()
  let ending = false
  let started = 0

  async function start(place: number): Promise<void> {
    const told = { ...options, seed: options.seed * 1_000 + started++, skewMs: skews[place % skews.length] ?? 0 }
    const child = fork(entry, [JSON.stringify(told)], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
    if (child.stderr)
      createInterface({ input: child.stderr }).on('line', (line) => {
        if (process.env['TEST_LOG']) console.error(`${child.pid} ${line}`)
        const event = line.startsWith('{') ? String((JSON.parse(line) as { msg: unknown }).msg) : 'without an event'
        logged.set(event, (logged.get(event) ?? 0) + 1)
      })
    const one = await new Promise<Running>((resolve, reject) => {
      child.once('exit', (code) => reject(new Error(`a worker ended with ${code} before it was up`)))
      child.once('message', ({ worker }: { worker: string }) =>
        resolve({ id: worker, pid: child.pid ?? 0, child, isStopped: false }),
      )
    })
    all.add(one)
    places.set(one, place)
    // Nobody but us ends a worker: one that ends by itself is started anew, and told of.
    child.once('exit', () => {
      if (!all.delete(one) || ending) return
      logged.set('ended by itself', (logged.get('ended by itself') ?? 0) + 1)
      later(place, 0)
    })
  }
  function later(place: number, ms: number): void {
    const work = new Promise((resolve) => setTimeout(resolve, ms))
      .then(() => (ending ? undefined : start(place)))
      .finally(() => starting.delete(work))
    starting.add(work)
  }

  await Promise.all(Array.from({ length: count }, (_, place) => start(place)))
  return {
    running: () => [...all],
    logged,
    async kill(one, afterMs) {
      all.delete(one)
      await endNow(one)
      later(places.get(one) ?? 0, afterMs)
    },
    hold(one, ms, withTenants) {
      const pids = [one.pid, ...(withTenants ? childrenOf(one.pid) : [])]
      one.isStopped = true
      signal(pids, 'SIGSTOP')
      setTimeout(() => {
        signal(pids, 'SIGCONT')
        one.isStopped = false
      }, ms)
    },
    async stop() {
      ending = true
      await Promise.allSettled(starting)
      await Promise.all(
        [...all].map((one) => {
          const ended = new Promise((resolve) => one.child.once('exit', resolve))
          one.child.send('stop')
          return ended
        }),
      )
    },
    async [Symbol.asyncDispose]() {
      ending = true
      await Promise.allSettled(starting)
      await Promise.all([...all].map(endNow))
    },
  }
}

function endNow({ child, pid }: Running): Promise<unknown> {
  const ended = new Promise((resolve) => child.once('exit', resolve))
  // One that stands still does not die of its parent's word alone: its tenants' processes stand with it.
  signal([...childrenOf(pid), pid], 'SIGCONT')
  child.kill('SIGKILL')
  return ended
}

const childrenOf = (pid: number): number[] => {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

function signal(pids: readonly number[], name: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, name)
    } catch {
      // It has ended meanwhile.
    }
  }
}
