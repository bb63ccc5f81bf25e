import { readFile, stat } from 'node:fs/promises'
import { AppError } from '../../shared/errors.ts'
import type { Column } from '../define.ts'
import type { TenantFiles } from '../files.ts'
import { isEnvelopeName } from '../lake/names.ts'
import { splitRecord } from './csv-header.ts'
import { declaredType } from '../../schema/config/column-type.ts'

/** Columns that an organisation declares; a required one may not be empty. */
export type SchemaFile = (Column & { isRequired: boolean })[]

const bytesMax = 1 << 20
const folder = 'user_schemas'

/**
 * What the organisation declares in its schema files: `user_schemas/{org}_{table}_schema.csv` for one table and
 * `user_schemas/{org}_schema.csv` for all, with the columns `column_name,data_type`. `{org}` is the id of the tenant.
 * A file that is not there declares nothing. Columns that versioned tables have anyway are passed over.
 * Throws FILE_INVALID with the line.
 */
export async function readSchemaFiles(
  files: TenantFiles,
  org: string,
  table: string,
): Promise<{ table: SchemaFile; organisation: SchemaFile }> {
  return {
    table: await readSchemaFile(files, `${folder}/${org}_${table}_schema.csv`),
    organisation: await readSchemaFile(files, `${folder}/${org}_schema.csv`),
  }
}

async function readSchemaFile(files: TenantFiles, name: string): Promise<SchemaFile> {
  if ((await files.match([name])).length === 0) return []
  const path = await files.resolve(name)
  if ((await stat(path)).size > bytesMax)
    throw new AppError('FILE_INVALID', `The schema file ${name} is larger than 1 MiB.`)
  const lines = (await readFile(path, 'utf8')).replace(/^\ufeff/, '').split(/\r?\n/)
  const columns: SchemaFile = []
  for (const [index, line] of lines.entries()) {
    if (line.trim() === '' || line.trimStart().startsWith('#')) continue
    const [column = '', ...rest] = splitRecord(line, { delimiter: ',', quote: '"' }) ?? []
    // DECIMAL(10,2) is often written without quotes.
    const type = rest.join(',').trim()
    if (column.trim() === 'column_name' && type === 'data_type') continue
    if (isEnvelopeName(column.trim())) continue
    const declared = column.trim() === '' ? undefined : declaration(column.trim(), type)
    if (!declared || columns.some((other) => other.name.toLowerCase() === declared.name.toLowerCase()))
      throw new AppError(
        'FILE_INVALID',
        `Line ${index + 1} of ${name} is no column of its own with a type such as TEXT, BIGINT, DECIMAL(10,2) or DATE NOT NULL.`,
      )
    columns.push(declared)
  }
  return columns
}

function declaration(name: string, text: string): SchemaFile[number] | undefined {
  const isRequired = /\b(NOT NULL|PRIMARY KEY)\b/i.test(text)
  const bare = text
    .replace(/\b(NOT NULL|PRIMARY KEY|NULL)\b/gi, '')
    .trim()
    .replace(/\s+/g, ' ')
  const type = declaredType.safeParse(standardType(bare))
  return type.success ? { name, type: type.data, isRequired } : undefined
}

// Names of PostgreSQL for types that the lake has under another one.
function standardType(type: string): string {
  const name = type.toUpperCase()
  if (/^(TEXT|STRING|(VARCHAR|CHAR|CHARACTER|CHARACTER VARYING)( ?\(\d+\))?)$/.test(name)) return 'VARCHAR'
  if (/^NUMERIC ?\(/.test(name)) return name.replace(/^NUMERIC ?/, 'DECIMAL')
  if (/^DECIMAL ?\(\d+\)$/.test(name)) return name.replace(/ ?\((\d+)\)$/, '($1,0)')
  const names: Record<string, string> = {
    INT: 'INTEGER',
    INT4: 'INTEGER',
    INT8: 'BIGINT',
    BOOL: 'BOOLEAN',
    JSONB: 'JSON',
    REAL: 'FLOAT',
    'DOUBLE PRECISION': 'DOUBLE',
    'TIMESTAMP WITH TIME ZONE': 'TIMESTAMPTZ',
    'TIMESTAMP WITHOUT TIME ZONE': 'TIMESTAMP',
    DATETIME: 'TIMESTAMP',
  }
  return names[name] ?? name
}
