import { createReadStream, createWriteStream } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Connection } from '../lake/connection.ts'
import { literal } from '../lake/names.ts'
import { fileShift } from '../lake/staging.ts'

/** What the scan must know of a file. `file` is its number in the staging. */
type Scan = {
  path: string
  file: number
  columns: number
  delimiter: string
  quote: string
  header: boolean
  workDir: string
  signal: AbortSignal
}

/** A record that the reader refused: where it begins (a line break may stand before it) and its length, in bytes. */
type Refused = { start: number; length: number }

/**
 * Gives the rejected rows of one file the line of the file on which each begins, counted from 1, whatever stands before
 * it: quoted line breaks, blank lines, other rejects. One pass over the bytes; memory does not grow with the file.
 */
export async function locateCsv(connection: Connection, scan: Scan): Promise<void> {
  const [some] = await connection.rows(`SELECT count(*)::INTEGER AS n FROM rejected WHERE file = $1 AND line IS NULL`, [
    scan.file,
  ])
  if (Number(some?.['n']) === 0) return
  const found = join(scan.workDir, `lines-${scan.file}.csv`)
  try {
    const refused = refusedOf(connection, scan.file)
    await pipeline(Readable.from(scanLines(scan, refused)), createWriteStream(found), { signal: scan.signal })
    await apply(connection, scan.file, found)
  } finally {
    await rm(found, { force: true })
  }
}

async function* refusedOf(connection: Connection, file: number): AsyncGenerator<Refused> {
  const rows = connection.chunks(
    `SELECT byte_start, byte_length FROM rejected WHERE file = $1 AND byte_start IS NOT NULL ORDER BY byte_start`,
    [file],
  )
  for await (const chunk of rows)
    for (const [start, length] of chunk) yield { start: Number(start), length: Number(length) }
}

// Kind 'run': from this row on, line = row + delta. Kind 'refused': the record that began at this byte stands on this line.
async function apply(connection: Connection, file: number, found: string): Promise<void> {
  const read = `read_csv(${literal(found)}, columns = {'kind': 'VARCHAR', 'place': 'BIGINT', 'value': 'BIGINT'}, header = false,
    auto_detect = false, delim = ',')`
  await connection.run(
    `UPDATE rejected SET line = f.value FROM ${read} f
     WHERE f.kind = 'refused' AND rejected.file = ${file} AND rejected.byte_start = f.place`,
  )
  await connection.run(
    `UPDATE rejected SET line = x.line FROM (
       SELECT r.__row, (r.__row - (${file}::BIGINT << ${fileShift})) + f.value AS line
       FROM (SELECT __row FROM rejected WHERE file = ${file} AND __row IS NOT NULL) r
       ASOF JOIN (SELECT place, value FROM ${read} WHERE kind = 'run') f
         ON (r.__row - (${file}::BIGINT << ${fileShift})) >= f.place) x
     WHERE rejected.__row = x.__row`,
  )
}

const lineFeed = 0x0a
const carriageReturn = 0x0d

async function* scanLines(scan: Scan, refusedRecords: AsyncIterator<Refused>): AsyncGenerator<string> {
  const quote = scan.quote.charCodeAt(0)
  const delimiter = scan.delimiter.charCodeAt(0)
  const take = async (): Promise<Refused | undefined> => {
    const next = await refusedRecords.next()
    return next.done ? undefined : next.value
  }
  let next = await take()
  let line = 1
  let row = 0
  let delta = Number.NaN
  let headerLeft = scan.header
  let at = 0
  let recordLine = 1
  let isAtRecord = true // at the first byte of a record
  let isAtField = true
  let isQuoted = false
  let mayClose = false // a quote inside quotes: the next byte tells whether it closes
  let skipTo = -1 // inside a refused record, whose quotes mean nothing
  let isRefused = false
  let lastWasReturn = false
  let out = ''

  const endRow = (): void => {
    if (headerLeft) {
      headerLeft = false
      return
    }
    row++
    if (recordLine - row !== delta) {
      delta = recordLine - row
      out += `run,${row},${delta}\n`
    }
  }

  for await (const chunk of createReadStream(scan.path, { highWaterMark: 1 << 20 })) {
    const bytes = chunk as Buffer // no encoding is set
    for (let index = 0; index < bytes.length; index++, at++) {
      const byte = bytes[index]
      const isBreak = byte === lineFeed || byte === carriageReturn
      if (byte === lineFeed && lastWasReturn) {
        // The second half of CR LF: the line was counted at its first half.
        lastWasReturn = false
        continue
      }
      lastWasReturn = byte === carriageReturn
      if (isAtRecord && !isBreak) {
        recordLine = line
        isAtRecord = false
        isAtField = true
        if (next && next.start <= at && !headerLeft) {
          isRefused = true
          skipTo = at + next.length
          out += `refused,${next.start},${line}\n`
          next = await take()
        }
      }
      if (isBreak) line++
      if (at < skipTo) continue
      if (mayClose) {
        mayClose = false
        if (byte === quote) continue
        isQuoted = false
      }
      if (isQuoted) {
        if (byte === quote) mayClose = true
      } else if (isBreak) {
        if (isRefused) isRefused = false
        else if (!isAtRecord) endRow()
        else if (scan.columns === 1 && !headerLeft) {
          // A blank line is a row only where a row is a single value.
          recordLine = line - 1
          endRow()
        }
        isAtRecord = true
        isAtField = true
      } else if (byte === quote && isAtField && !isRefused) {
        isQuoted = true
        isAtField = false
      } else isAtField = byte === delimiter
    }
    if (out.length > 1 << 16) {
      yield out
      out = ''
    }
  }
  if (!isAtRecord && !isRefused) endRow()
  yield out
}
