const types: Record<number, string> = {
  16: 'BOOLEAN',
  20: 'BIGINT',
  21: 'SMALLINT',
  23: 'INTEGER',
  26: 'BIGINT', // oid
  114: 'JSON',
  700: 'FLOAT',
  701: 'DOUBLE',
  1082: 'DATE',
  1083: 'TIME',
  1114: 'TIMESTAMP',
  1184: 'TIMESTAMP WITH TIME ZONE',
  2950: 'UUID',
  3802: 'JSON', // jsonb
}
const numeric = 1700

/**
 * The type of the lake that keeps every value of a PostgreSQL type, by its id and modifier. What has no equal (bytea,
 * arrays, intervals, enums, numeric without a size) becomes VARCHAR, as PostgreSQL writes it.
 */
export function postgresType(id: number, modifier: number): { type: string; note?: string } {
  if (id !== numeric) return { type: types[id] ?? 'VARCHAR' }
  if (modifier < 4)
    return {
      type: 'VARCHAR',
      note: 'numeric without a size is kept as text; cast it, such as ::numeric(18,2), for a number.',
    }
  const precision = ((modifier - 4) >> 16) & 0xffff
  // Eleven bits with a sign since version 15.
  const scale = (((modifier - 4) & 0x7ff) ^ 1024) - 1024
  return { type: precision <= 38 && scale >= 0 && scale <= precision ? `DECIMAL(${precision},${scale})` : 'VARCHAR' }
}
