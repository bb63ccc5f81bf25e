import { expect, test } from 'vitest'
import { backfillSlots } from '../../../shared/schedules/backfill-slots.ts'

const days = (from: string, to: string, every: Parameters<typeof backfillSlots>[1]): string[] =>
  backfillSlots({ from, to }, every).map(({ day }) => day)

test('both ends of the range are in it, in every step', () => {
  expect(days('2026-02-27', '2026-03-02', 'DAY')).toEqual(['2026-02-27', '2026-02-28', '2026-03-01', '2026-03-02'])
  expect(days('2026-01-01', '2026-01-15', 'WEEK')).toEqual(['2026-01-01', '2026-01-08', '2026-01-15'])
  expect(days('2026-01-31', '2026-01-31', 'DAY')).toEqual(['2026-01-31'])
})

test('a month that is shorter gives its last day, and the next one is itself again', () => {
  expect(days('2026-01-31', '2026-05-01', 'MONTH')).toEqual(['2026-01-31', '2026-02-28', '2026-03-31', '2026-04-30'])
})

test('times of a schedule count by the day of its zone', () => {
  const slots = backfillSlots(
    { from: '2026-03-28', to: '2026-03-30' },
    { cron: '30 0 * * *', timezone: 'Europe/Berlin' },
  )
  expect(slots.map(({ slotAt, day }) => `${slotAt.toISOString().slice(0, 16)} ${day}`)).toEqual([
    '2026-03-27T23:30 2026-03-28',
    '2026-03-28T23:30 2026-03-29',
    '2026-03-29T22:30 2026-03-30',
  ])
  expect(days('2026-01-01', '2026-01-02', { cron: '30 20 * * *', timezone: 'Pacific/Kiritimati' })).toEqual([
    '2026-01-01',
    '2026-01-02',
  ])
})

test('too many are told by one more than allowed, without counting on', () => {
  expect(days('2000-01-01', '2900-01-01', 'DAY')).toHaveLength(1001)
  expect(days('2026-01-01', '2900-01-01', { cron: '* * * * *', timezone: 'UTC' })).toHaveLength(1001)
})
