import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { datasetFile } from './dataset.ts'

/** What a full load of the second day into a versioned table of the first must report, key `zip_code`. */
export type ExpectedChanges = {
  inserted: number
  updated: number
  deleted: number
  unchanged: number
  /** Quarantined rows by code. */
  rejected: { TYPE: number; KEY_NULL: number; KEY_DUPLICATE: number; TOO_MANY_COLUMNS: number; MISSING_COLUMNS: number }
}

/** The two files, and how many data lines each has. */
export type Places = { day1: string; day2: string; lines: { day1: number; day2: number }; expected: ExpectedChanges }

const header = 'zip_code,latitude,longitude,city,state,county'

const changes = { inserted: 450, updated: 1200, deleted: 300 }
const defects = { TYPE: 25, KEY_NULL: 12, KEY_DUPLICATE: 18, TOO_MANY_COLUMNS: 1, MISSING_COLUMNS: 1 }

/**
 * Writes `places-day1.csv`, the 42,049 ZIP codes of the United States from vega-datasets (BSD-3-Clause) as they are, and
 * `places-day2.csv`, the same with known changes and planted defects. One seed always makes the same files.
 * Defects stand on keys of their own, but for the outdated line before the good one of a repeated key: they change no
 * other count.
 */
export async function writePlaces(folder: string, seed = 20_261_121): Promise<Places> {
  const text = await readFile(datasetFile('zipcodes.csv'), 'utf8')
  const [found, ...lines] = text.trimEnd().split('\n')
  if (found !== header) throw new Error(`zipcodes.csv has other columns: ${found}`)
  const after = secondDay(lines, generator(seed))
  await mkdir(folder, { recursive: true })
  const day1 = join(folder, 'places-day1.csv')
  const day2 = join(folder, 'places-day2.csv')
  await writeFile(day1, text)
  await writeFile(day2, `${[header, ...after].join('\n')}\n`)
  const unchanged = lines.length - changes.updated - changes.deleted
  return {
    day1,
    day2,
    lines: { day1: lines.length, day2: after.length },
    expected: { ...changes, unchanged, rejected: defects },
  }
}

function secondDay(lines: readonly string[], random: () => number): string[] {
  const keys = new Set(lines.map((line) => line.slice(0, 5)))
  const newKey = (): string => {
    for (;;) {
      const key = String(Math.floor(random() * 100_000)).padStart(5, '0')
      if (!keys.has(key) && keys.add(key)) return key
    }
  }
  const row = (key: string): string =>
    `${key},${(25 + random() * 24).toFixed(6)},${(-124 + random() * 55).toFixed(6)},New Harbor,CA,New County`

  const fates = new Map<number, 'updated' | 'deleted' | 'repeated'>()
  const choose = (fate: 'updated' | 'deleted' | 'repeated', count: number): void => {
    for (const wanted = fates.size + count; fates.size < wanted;) {
      const index = Math.floor(random() * lines.length)
      if (!fates.has(index)) fates.set(index, fate)
    }
  }
  choose('updated', changes.updated)
  choose('deleted', changes.deleted)
  choose('repeated', defects.KEY_DUPLICATE)

  const after = lines.flatMap((line, index) => {
    const fate = fates.get(index)
    if (fate === 'deleted') return []
    if (fate === 'updated') return [`${line} (renamed)`]
    return fate === 'repeated' ? [`${line} (outdated)`, line] : [line]
  })
  const added = [
    ...times(changes.inserted, () => row(newKey())),
    ...times(defects.TYPE, () => row(newKey()).replace(/,[^,]+/, ',forty degrees')),
    ...times(defects.KEY_NULL, () => row('')),
    ...times(defects.TOO_MANY_COLUMNS, () => `${row(newKey())},one too many`),
    ...times(defects.MISSING_COLUMNS, () => row(newKey()).replace(/,[^,]+$/, '')),
  ]
  for (const line of added) after.splice(Math.floor(random() * after.length), 0, line)
  return after
}

const times = (count: number, make: () => string): string[] => Array.from({ length: count }, make)

/** Numbers in [0, 1) that depend on the seed alone (mulberry32). */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
