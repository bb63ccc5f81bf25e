import type { Column } from '../define.ts'
import { quoted } from './names.ts'

const textTypes = /^(VARCHAR|TEXT|JSON|BLOB)|[[(]|STRUCT|MAP|UNION|ENUM/i

/**
 * SQL for the stored hash of a row: SHA-256 of a text from which the row can be read back, as a BLOB of 32 bytes.
 * A text column is written as value, U+001F, its length in bytes, U+001E; all others as value, U+001E; NULL as no value
 * (and no length: the empty text has the length 0). Read from the end, the length says where a text begins, whatever it
 * holds; texts of numbers, dates and booleans hold no U+001E. So two rows share the text only if they are the same.
 */
export function rowHash(columns: readonly Column[], alias = ''): string {
  const parts = columns.map(({ name, type }) => {
    const column = `${alias}${quoted(name)}`
    if (/^VARCHAR$/i.test(type)) return `${column}, chr(31), strlen(${column}), chr(30)`
    if (textTypes.test(type) && !/^DECIMAL/i.test(type))
      return `${column}::VARCHAR, chr(31), strlen(${column}::VARCHAR), chr(30)`
    return `${column}, chr(30)`
  })
  return `unhex(sha256(concat(${parts.join(', ')})))`
}

/** SQL for the quick hash that tells rows apart within one query. Never stored: it may differ between engine versions. */
export function quickHash(columns: readonly Column[], alias = ''): string {
  return `hash(${columns.map(({ name }) => `${alias}${quoted(name)}`).join(', ')})`
}
