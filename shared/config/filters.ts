import type { Value } from '../../schema/config/variables.ts'
import type { Filter } from './placeholders.ts'

/** Why a filter cannot be used as written; undefined when it can. Values are judged when it is applied. */
export function filterFault(filter: Filter): string | undefined {
  const known = filters[filter.name]
  if (!known) return `there is no filter "${filter.name}"; there are ${Object.keys(filters).join(', ')}`
  if (known.argument === undefined)
    return filter.argument === undefined ? undefined : `the filter "${filter.name}" takes nothing after a colon`
  return known.argument.test(filter.argument ?? '')
    ? undefined
    : `the filter "${filter.name}" is written ${filter.name}:${known.example}`
}

/**
 * The value after all filters, left to right. `undefined` (a name without a value) passes until `default` ends it.
 * A filter that cannot take the value gives a fault for people, without the value in it.
 */
export function applyFilters(value: Value | undefined, list: readonly Filter[]): { value?: Value; fault?: string } {
  let current = value
  for (const filter of list) {
    const fault = filterFault(filter)
    if (fault) return { fault }
    if (filter.name === 'default') {
      if (current === undefined || current === null || current === '') current = filter.argument ?? ''
    } else if (current !== undefined) {
      const next = isText(current) ? filters[filter.name]?.apply(String(current), filter.argument ?? '') : undefined
      if (next === undefined) return { fault: `the filter "${filter.name}" cannot take this value` }
      current = next
    }
  }
  return { value: current }
}

type Kind = { argument?: RegExp; example?: string; apply(text: string, argument: string): string | undefined }

const filters: { readonly [name: string]: Kind | undefined } = Object.assign(Object.create(null) as object, {
  date_add: { argument: /^[+-]?\d{1,5}(d|w|mo|y|h)$/, example: '-1d (units d, w, mo, y, h)', apply: dateAdd },
  date_format: { argument: /^[^{}|]{1,40}$/, example: 'yyyyMMdd (yyyy, MM, dd, HH, mm, ss)', apply: dateFormat },
  default: { argument: /^[^{}|]*$/, example: 'text', apply: (text: string) => text },
  upper: { apply: (text: string) => text.toUpperCase() },
  lower: { apply: (text: string) => text.toLowerCase() },
  slug: { apply: slug },
} satisfies Record<string, Kind>)

const isText = (value: Value): boolean => typeof value === 'string' || typeof value === 'number'

// 'Größe & Co' is 'grosse_co': ASCII that can stand in a path or a name. Upper case first, since only that spells ß as SS.
function slug(text: string): string {
  return text
    .normalize('NFKD')
    .replaceAll(/\p{M}/gu, '')
    .toUpperCase()
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '_')
    .replaceAll(/^_|_$/g, '')
}

// A day stays a day and a moment stays a moment, always in UTC.
function dateAdd(text: string, argument: string): string | undefined {
  const date = readDate(text)
  const parts = /^([+-]?\d+)(d|w|mo|y|h)$/.exec(argument)
  if (!date || !parts) return undefined
  const count = Number(parts[1])
  if (parts[2] === 'h') date.setUTCHours(date.getUTCHours() + count)
  else if (parts[2] === 'd') date.setUTCDate(date.getUTCDate() + count)
  else if (parts[2] === 'w') date.setUTCDate(date.getUTCDate() + 7 * count)
  else addMonths(date, parts[2] === 'y' ? 12 * count : count)
  if (Number.isNaN(date.getTime()) || date.getUTCFullYear() < 1 || date.getUTCFullYear() > 9999) return undefined
  return text.length === 10 ? date.toISOString().slice(0, 10) : date.toISOString()
}

// 31 January + 1 month is the last day of February, not 3 March.
function addMonths(date: Date, months: number): void {
  const day = date.getUTCDate()
  date.setUTCDate(1)
  date.setUTCMonth(date.getUTCMonth() + months)
  const last = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate()
  date.setUTCDate(Math.min(day, last))
}

function dateFormat(text: string, argument: string): string | undefined {
  const iso = readDate(text)?.toISOString()
  if (!iso) return undefined
  const parts: Record<string, string> = {
    yyyy: iso.slice(0, 4),
    MM: iso.slice(5, 7),
    dd: iso.slice(8, 10),
    HH: iso.slice(11, 13),
    mm: iso.slice(14, 16),
    ss: iso.slice(17, 19),
  }
  return argument.replaceAll(/yyyy|MM|dd|HH|mm|ss/g, (token) => parts[token] ?? token)
}

/** The moment of `2024-11-01` or of an ISO moment with a zone; undefined for other text and for days that do not exist. */
export function readDate(text: string): Date | undefined {
  if (!/^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2}))?$/.test(text)) return undefined
  const date = new Date(text)
  if (Number.isNaN(date.getTime())) return undefined
  // JavaScript reads 31 February as 2 March.
  const day = new Date(`${text.slice(0, 10)}T00:00:00Z`)
  return day.toISOString().startsWith(text.slice(0, 10)) ? date : undefined
}
