import type { Column } from '../define.ts'
import { quoted } from './names.ts'

/**
 * SQL for the stored hash of a row: SHA-256, in hexadecimal, of a text from which the row can be read back.
 * The text is all text columns one after another, then U+001F and the value for each other column, then U+001F and the
 * length in bytes for each text column; NULL is nothing, for the value as for the length (the empty text has the length
 * 0). Read from its end, it tells the lengths, then the other values, which hold no U+001F, and so where each text ends.
 * Timestamps are microseconds since 1970. Two rows of the same columns share the text only if they are the same.
 */
export function rowHash(columns: readonly Column[], alias = ''): string {
  const sql = ({ name }: Column): string => `${alias}${quoted(name)}`
  const texts = columns.filter(({ type }) => isText(type)).map((column) => textOf(column, sql(column)))
  const others = columns.filter(({ type }) => !isText(type)).map((column) => valueOf(column, sql(column)))
  const parts = [
    ...texts,
    ...others.map((value) => `chr(31), ${value}`),
    ...texts.map((value) => `chr(31), strlen(${value})`),
  ]
  return `sha256(concat(${parts.join(', ')}))`
}

/** SQL for the quick hash that tells rows apart within one query. Never stored: it may differ between engine versions. */
export function quickHash(columns: readonly Column[], alias = ''): string {
  return `hash(${columns.map(({ name }) => `${alias}${quoted(name)}`).join(', ')})`
}

// Types whose text holds neither U+001F nor anything else but digits, letters and signs.
const plain =
  /^(BOOLEAN|U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\(.*\)|DATE|TIME|TIMESTAMP.*|UUID|INTERVAL)$/i

const isText = (type: string): boolean => !plain.test(type)

const textOf = ({ type }: Column, sql: string): string => (/^VARCHAR$/i.test(type) ? sql : `${sql}::VARCHAR`)

// The text of a timestamp costs as much as those of eight other columns (measured); infinity has no number.
const valueOf = ({ type }: Column, sql: string): string =>
  /^TIMESTAMP( WITH TIME ZONE|TZ)?$/i.test(type) ? `coalesce(epoch_us(${sql})::VARCHAR, ${sql}::VARCHAR)` : sql
