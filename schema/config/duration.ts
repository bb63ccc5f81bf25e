import { parse } from '@lukeed/ms'
import { z } from 'zod'

/** A number and a unit (`ms`, `s`, `m`, `h`, `d`): `30m`, `1.5h`. A bare number is refused, since nobody sees its unit. */
export const durationPattern = /^\d{1,9}(\.\d{1,3})?(ms|s|m|h|d)$/

const upTo = (days: number) =>
  z
    .string()
    .regex(durationPattern, 'expected a duration such as 30s, 15m or 4h')
    .refine((text) => durationMs(text) >= 1 && durationMs(text) <= days * 86_400_000, `expected at most ${days}d`)

/** A duration as pipeline files write it, between 1 ms and 30 days. */
export const duration = upTo(30)

/** How old data may be: written like a duration, between 1 ms and 3660 days. */
export const age = upTo(3660)

/** Milliseconds of a checked duration, rounded. Zero for the empty time and for text that is no duration. */
export function durationMs(text: string): number {
  return Math.round(parse(text) ?? 0)
}
