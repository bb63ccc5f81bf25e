import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Places, writePlaces } from '../../../standalone/demo/places.ts'

let folder = ''
let places: Places
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'places-'))
  places = await writePlaces(folder)
})
afterAll(() => rm(folder, { recursive: true }))

const lines = async (path: string): Promise<string[]> => (await readFile(path, 'utf8')).trimEnd().split('\n').slice(1)

test('the second day differs from the first by exactly what is promised', async () => {
  const before = new Map((await lines(places.day1)).map((line) => [line.slice(0, 5), line]))
  const found = { inserted: 0, updated: 0, deleted: 0, unchanged: 0 }
  const rejected = { TYPE: 0, KEY_NULL: 0, KEY_DUPLICATE: 0, TOO_MANY_COLUMNS: 0, MISSING_COLUMNS: 0 }
  const after = new Map<string, string>()
  for (const line of await lines(places.day2)) {
    const [key = '', latitude] = line.split(',')
    const width = line.split(',').length
    if (width > 6) rejected.TOO_MANY_COLUMNS++
    else if (width < 6) rejected.MISSING_COLUMNS++
    else if (Number.isNaN(Number(latitude))) rejected.TYPE++
    else if (key === '') rejected.KEY_NULL++
    else {
      if (after.has(key)) rejected.KEY_DUPLICATE++
      after.set(key, line)
    }
  }
  for (const [key, line] of after) {
    if (!before.has(key)) found.inserted++
    else if (before.get(key) === line) found.unchanged++
    else found.updated++
  }
  for (const key of before.keys()) if (!after.has(key)) found.deleted++
  expect({ ...found, rejected }).toEqual(places.expected)
  expect([before.size, (await lines(places.day2)).length]).toEqual([places.lines.day1, places.lines.day2])
})

test('one seed always makes the same files, another one others', async () => {
  const again = await mkdtemp(join(tmpdir(), 'places-'))
  const same = await writePlaces(again)
  expect(await readFile(same.day2, 'utf8')).toBe(await readFile(places.day2, 'utf8'))
  const other = await writePlaces(again, 1)
  expect(await readFile(other.day2, 'utf8')).not.toBe(await readFile(places.day2, 'utf8'))
  await rm(again, { recursive: true })
})
