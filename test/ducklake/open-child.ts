// A process of its own that opens a lake with a key, waits while another process has it, notes that it was there, and says
// how it went. A test kills it, or leaves it no room. Argument: the place of the lake as JSON.
import { setTimeout as wait } from 'node:timers/promises'
import { AppError } from '../../shared/errors.ts'
import { type LakePlace, openLake } from '../../workers/lake/open.ts'

const place = JSON.parse(process.argv[2] ?? '{}') as LakePlace // written by the test
for (;;)
  try {
    const lake = await openLake(place)
    using connection = await lake.connect(new AbortController().signal)
    await connection.run('CREATE TABLE IF NOT EXISTS lake.main.seen (pid INTEGER)')
    await connection.run(`INSERT INTO lake.main.seen VALUES (${process.pid})`)
    await lake.close()
    process.stdout.write('opened\n')
    break
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    if (error.code === 'CONFLICT' && error.retry === 'later') {
      process.stdout.write('waits\n')
      await wait(10)
      continue
    }
    process.stdout.write(`${error.code} ${error.message}\n`)
    break
  }
