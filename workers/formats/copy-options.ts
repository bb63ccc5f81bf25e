import { literal } from '../lake/names.ts'

/** Formats that a file can be written in. */
export const formats = ['csv', 'ndjson', 'json', 'parquet'] as const

/** How to write a file. */
export type CopyFormat = {
  format: (typeof formats)[number]
  header: boolean
  delimiter: string
  compression: 'zstd' | 'snappy' | 'none'
}

/**
 * The options of a COPY statement. In CSV, NULL is nothing and the empty text is `""`, so both come back as they were;
 * the file name is ours already, so no second temporary one is made.
 */
export function copyOptions(to: CopyFormat): string {
  switch (to.format) {
    case 'csv':
      return `FORMAT csv, HEADER ${to.header}, DELIMITER ${literal(to.delimiter)}, USE_TMP_FILE false`
    case 'ndjson':
      return `FORMAT json, ARRAY false, USE_TMP_FILE false`
    case 'json':
      return `FORMAT json, ARRAY true, USE_TMP_FILE false`
    case 'parquet':
      return `FORMAT parquet, COMPRESSION ${to.compression === 'none' ? 'uncompressed' : to.compression}, USE_TMP_FILE false`
  }
}
