import { describe, expect, test } from 'vitest'
import { cronFault, dayIn, isTooOften, lastTimes, nextTimes, zoneFault } from '../../../shared/schedules/cron.ts'

const next = (cron: string, timezone: string, after: string, count: number): string[] =>
  nextTimes({ cron, timezone }, new Date(after), count).map((at) => at.toISOString().slice(0, 16))
const last = (cron: string, timezone: string, until: string, count: number): string[] =>
  lastTimes({ cron, timezone }, new Date(until), count).map((at) => at.toISOString().slice(0, 16))

describe('a time that the clocks leave out comes at the first moment after the gap, once', () => {
  test.for([
    ['Europe/Berlin', '2026-03-28T12:00Z', ['2026-03-29T01:00', '2026-03-30T00:30']],
    ['America/New_York', '2026-03-07T12:00Z', ['2026-03-08T07:00', '2026-03-09T06:30']],
  ] as const)('%s', ([zone, after, times]) => expect(next('30 2 * * *', zone, after, 2)).toEqual(times))
})

describe('a fixed time that the clocks bring twice counts the first time only', () => {
  test.for([
    ['Europe/Berlin', '30 2 * * *', '2026-10-24T12:00Z', ['2026-10-25T00:30', '2026-10-26T01:30']],
    ['America/New_York', '30 1 * * *', '2026-10-31T12:00Z', ['2026-11-01T05:30', '2026-11-02T06:30']],
  ] as const)('%s', ([zone, cron, after, times]) => expect(next(cron, zone, after, 2)).toEqual(times))
})

describe('half hours follow the time that passes, through gap and repetition', () => {
  const steps = (from: string): string[] =>
    [1, 2, 3, 4, 5].map((n) => new Date(Date.parse(from) + n * 1_800_000).toISOString().slice(0, 16))
  test.for([
    ['Europe/Berlin', '2026-03-29T00:00Z'],
    ['Europe/Berlin', '2026-10-24T23:30Z'],
    ['America/New_York', '2026-03-08T06:00Z'],
    ['America/New_York', '2026-11-01T05:00Z'],
  ] as const)('%s from %s', ([zone, from]) => {
    expect(next('*/30 * * * *', zone, from, 5)).toEqual(steps(from))
    expect(last('*/30 * * * *', zone, steps(from).at(-1) + 'Z', 5)).toEqual(steps(from).toReversed())
  })
})

test('the last times hold the moment itself, and agree with the next ones over both changes of clocks', () => {
  for (const [from, to] of [
    ['2026-03-28T00:00Z', '2026-03-31T00:00Z'],
    ['2026-10-24T00:00Z', '2026-10-27T00:00Z'],
  ] as const) {
    const forward = next('30 2 * * *', 'Europe/Berlin', from, 9).filter((at) => `${at}Z` <= to)
    expect(last('30 2 * * *', 'Europe/Berlin', to, forward.length)).toEqual(forward.toReversed())
  }
  expect(last('*/5 * * * *', 'UTC', '2026-01-01T10:05:00.000Z', 1)).toEqual(['2026-01-01T10:05'])
  expect(last('*/5 * * * *', 'UTC', '2026-01-01T10:04:59.999Z', 1)).toEqual(['2026-01-01T10:00'])
})

test('the day of a slot is that of its zone', () => {
  expect(dayIn('Europe/Berlin', new Date('2026-06-30T22:30Z'))).toBe('2026-07-01')
  expect(dayIn('America/New_York', new Date('2026-01-01T04:59Z'))).toBe('2025-12-31')
})

describe('refused as cron:', () => {
  test.for([
    '0 0 30 2 *',
    '0 0 31 4,6,9,11 *',
    '* * * *',
    '* * * * * *',
    '61 * * * *',
    '0 24 * * *',
    '0 0 L * *',
    '0 0 1W * *',
    '0 0 * * SUN#2',
    '0 0 ? * *',
    '@reboot',
    '5-1 * * * *',
    '*/0 * * * *',
    'MON * * * *',
    '0 0 * FOO *',
    `${'1,'.repeat(40)}1 * * * *`.slice(0, 5),
  ])('%s', (cron) => expect(cronFault(cron)).toEqual(expect.any(String)))
})

describe('taken as cron:', () => {
  test.for([
    '0 2 * * *',
    '*/15 8-18 * JAN-MAR MON-FRI',
    '0 0 29 2 *',
    '0 0 * * 7',
    '@hourly',
    '@daily',
    '0,30 1-5/2 1 1 *',
  ])('%s', (cron) => expect(cronFault(cron)).toBeUndefined())
})

test('zones are names of places, not offsets', () => {
  for (const name of ['Europe/Berlin', 'UTC', 'America/Argentina/Buenos_Aires', 'Etc/GMT+5'])
    expect([name, zoneFault(name)]).toEqual([name, undefined])
  for (const name of ['Mars/Phobos', '+02:00', '', 'Europe/Berlin; x', '../etc'])
    expect([name, zoneFault(name)]).toEqual([name, expect.any(String)])
})

test('what lies too close together is found where it is rare', () => {
  const at = (cron: string, minutes: number): boolean => isTooOften({ cron, timezone: 'UTC' }, minutes)
  expect(at('*/5 * * * *', 5)).toBe(false)
  expect(at('*/4 * * * *', 5)).toBe(true)
  expect(at('0,1 3 1 * *', 5)).toBe(true)
  expect(at('* * * * *', 1)).toBe(false)
})
