import { bossWorker, openQueue, type QueueName } from './queues.ts'

// One process that works: told its queue, its slots and whether it is to tell of each unit, it waits for "go".
const [, , name, url = '', slots = '1', mode] = process.argv
const queue = openQueue(name as QueueName, url) // of this bench's own main file
let count = 0
let lastAt = 0

/** Milliseconds since 1970, finer than the clock of Date. */
const now = (): number => performance.timeOrigin + performance.now()
const tell = (message: object): void => void process.send?.(message)
const done = (id: string): void => {
  count++
  lastAt = now()
  if (mode === 'each') tell({ id, at: lastAt })
}

process.once('disconnect', () => process.exit(0))
process.once('message', () => {
  if (mode !== 'each') setInterval(() => tell({ count, lastAt }), 20)
  if (name === 'pg-boss' && mode === 'each') bossWorker(url, done)
  else void queue.work(Number(slots), done)
})
tell({ ready: true })
