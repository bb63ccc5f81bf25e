import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { QueueName } from './queues.ts'

/** Processes that work off one queue. */
export type Crew = AsyncDisposable & {
  /** Lets them begin; resolves with the seconds until `units` were done between them. */
  drain(units: number): Promise<number>
  /** Lets them begin and calls back with each unit: its id and when it was done, in milliseconds since 1970. */
  watch(each: (id: string, at: number) => void): void
}

/** Milliseconds since 1970, finer than the clock of Date. */
export const now = (): number => performance.timeOrigin + performance.now()

/** Starts `processes` of them, `slots` at a time each, and waits until they are ready to begin. */
export async function crew(
  name: QueueName,
  url: string,
  options: { processes: number; slots: number; mode: 'sum' | 'each' },
): Promise<Crew> {
  const file = fileURLToPath(new URL('claimer.ts', import.meta.url))
  const children = Array.from({ length: options.processes }, () =>
    fork(file, [name, url, String(options.slots), options.mode], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }),
  )
  await Promise.all(children.map((child) => new Promise((resolve) => child.once('message', resolve))))
  return {
    drain: (units) => drain(children, units),
    watch(each) {
      for (const child of children) {
        child.on('message', ({ id, at }: { id?: string; at: number }) => {
          if (id !== undefined) each(id, at)
        })
        child.send('go')
      }
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(
        children.map((child) => {
          const ended = new Promise((resolve) => child.once('exit', resolve))
          child.kill('SIGKILL')
          return ended
        }),
      )
    },
  }
}

function drain(children: ChildProcess[], units: number): Promise<number> {
  const counts = new Map<ChildProcess, { count: number; lastAt: number }>()
  return new Promise((resolve, reject) => {
    const startedAt = now()
    for (const child of children) {
      child.once('exit', () => reject(new Error('a process ended before the work was done')))
      child.on('message', (told: { count: number; lastAt: number }) => {
        counts.set(child, told)
        const sum = [...counts.values()].reduce((total, one) => total + one.count, 0)
        if (sum > units) reject(new Error(`${sum} units were done, there were ${units}`))
        if (sum === units) resolve((Math.max(...[...counts.values()].map((one) => one.lastAt)) - startedAt) / 1000)
      })
      child.send('go')
    }
  })
}
