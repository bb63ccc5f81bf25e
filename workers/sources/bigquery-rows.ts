import { AppError } from '../../shared/errors.ts'
import type { Column } from '../define.ts'
import type { Field } from './bigquery-api.ts'

/** A column of a result, with a remark for the step's log where the type is not BigQuery's own. */
export type ResultColumn = Column & { note?: string }

const types: Record<string, { type: string; note?: string }> = {
  STRING: { type: 'VARCHAR' },
  INTEGER: { type: 'BIGINT' },
  INT64: { type: 'BIGINT' },
  FLOAT: { type: 'DOUBLE' },
  FLOAT64: { type: 'DOUBLE' },
  NUMERIC: { type: 'DECIMAL(38,9)' },
  BIGNUMERIC: { type: 'VARCHAR', note: 'BIGNUMERIC is kept as text; cast it to NUMERIC for a number.' },
  BOOLEAN: { type: 'BOOLEAN' },
  BOOL: { type: 'BOOLEAN' },
  DATE: { type: 'DATE' },
  TIME: { type: 'TIME' },
  DATETIME: { type: 'TIMESTAMP' },
  TIMESTAMP: { type: 'TIMESTAMP WITH TIME ZONE' },
  BYTES: { type: 'VARCHAR', note: 'BYTES are kept as base64 text.' },
  JSON: { type: 'JSON' },
  RECORD: { type: 'JSON' },
  STRUCT: { type: 'JSON' },
}

/** The columns of a result. What has no equal (intervals, geography, ranges) becomes text, arrays and structs become JSON. */
export function resultColumns(fields: readonly Field[]): ResultColumn[] {
  const seen = new Set<string>()
  return fields.map(({ name, type, mode }) => {
    const folded = name.toLowerCase()
    if (seen.has(folded))
      throw new AppError('SQL_INVALID', `The query has two columns with the name ${JSON.stringify(name)}.`)
    seen.add(folded)
    return mode === 'REPEATED' ? { name, type: 'JSON' } : { name, ...(types[type] ?? { type: 'VARCHAR' }) }
  })
}

/** Rows of a page as CSV: every value in quotes, NULL as nothing. Throws SOURCE_FAILED for rows of another form. */
export function csvOf(fields: readonly Field[], rows: readonly unknown[]): Buffer {
  const writers = fields.map(cellWriter)
  let text = ''
  for (const row of rows) text += `${line(cellsOf(row), writers)}\n`
  return Buffer.from(text)
}

type Write = (value: unknown) => string

function line(cells: readonly unknown[], writers: readonly Write[]): string {
  if (cells.length !== writers.length) throw oddRow()
  let text = ''
  for (let index = 0; index < writers.length; index++) {
    const value = valueOf(cells[index])
    if (index > 0) text += ','
    if (value !== null) text += `"${writers[index]?.(value).replaceAll('"', '""')}"`
  }
  return text
}

function cellWriter(field: Field): Write {
  if (field.mode === 'REPEATED' || isStruct(field)) return (value) => jsonText(field, value)
  return field.type === 'TIMESTAMP' ? (value) => moment(textOf(value)) : textOf
}

const isStruct = ({ type }: Field): boolean => type === 'RECORD' || type === 'STRUCT'

// BigQuery's numbers go into JSON digit by digit; what JSON has no number for (NaN, Infinity) is a text.
function jsonText(field: Field, value: unknown): string {
  if (value === null) return 'null'
  if (field.mode === 'REPEATED') {
    if (!Array.isArray(value)) throw oddRow()
    const item = { ...field, mode: 'NULLABLE' }
    return `[${value.map((cell: unknown) => jsonText(item, valueOf(cell))).join(',')}]`
  }
  if (isStruct(field)) {
    const parts = field.fields ?? []
    const cells = cellsOf(value)
    if (cells.length !== parts.length) throw oddRow()
    return `{${parts.map((part, index) => `${JSON.stringify(part.name)}:${jsonText(part, valueOf(cells[index]))}`).join(',')}}`
  }
  const text = textOf(value)
  if (field.type === 'JSON') return text
  if (field.type === 'TIMESTAMP') return JSON.stringify(moment(text))
  const isBare =
    /^(BOOL|INT|FLOAT|NUMERIC)/.test(field.type) && /^(true|false|-?\d+(\.\d+)?([eE][+-]?\d+)?)$/.test(text)
  return isBare ? text : JSON.stringify(text)
}

const microsPerSecond = 1_000_000n

// Microseconds since 1970. A double, BigQuery's other form, loses the last digits.
function moment(text: string): string {
  if (!/^-?\d{1,18}$/.test(text)) throw oddRow()
  const micros = BigInt(text)
  const rest = ((micros % microsPerSecond) + microsPerSecond) % microsPerSecond
  const date = new Date(Number((micros - rest) / 1000n))
  if (Number.isNaN(date.getTime())) throw oddRow()
  return `${date.toISOString().slice(0, -5)}.${String(rest).padStart(6, '0')}+00`
}

function cellsOf(row: unknown): readonly unknown[] {
  const cells: unknown = typeof row === 'object' && row !== null && 'f' in row ? row.f : undefined
  if (!Array.isArray(cells)) throw oddRow()
  return cells
}

function valueOf(cell: unknown): unknown {
  if (typeof cell !== 'object' || cell === null || !('v' in cell)) throw oddRow()
  return cell.v
}

function textOf(value: unknown): string {
  if (typeof value !== 'string') throw oddRow()
  return value
}

const oddRow = (): AppError =>
  new AppError('SOURCE_FAILED', 'BigQuery answered with rows of another form than it described.', { retry: 'never' })
