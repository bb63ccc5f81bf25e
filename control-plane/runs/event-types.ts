import { logLevels } from '../../schema/states.ts'
import { builder } from '../graphql/builder.ts'
import { LogLevel } from '../graphql/enums.ts'
import { eventMessage, eventTypes } from './event-message.ts'
import type { EventRow } from './read-events.ts'
import { cursorOf, type TenantEventRow } from './watch-tenant.ts'

/** Something that happened in a run. */
export const RunEvent = builder.objectRef<EventRow>('RunEvent').implement({
  description: 'Something that happened in a run.',
  fields: (t) => ({
    seq: t.exposeInt('seq', { description: 'Its number in the run, from 1 without gaps: resume after it.' }),
    at: t.field({ type: 'DateTime', description: 'When it happened.', resolve: (row) => row.at }),
    type: t.exposeString('type', {
      description: `What happened: ${eventTypes.slice(0, -1).join(', ')} or ${eventTypes.at(-1)}.`,
    }),
    stepKey: t.exposeString('stepKey', { nullable: true, description: 'The step, if it concerns one.' }),
    data: t.field({ type: 'JSON', nullable: true, description: 'Its figures.', resolve: (row) => row.data }),
    message: t.string({ description: 'The same in one sentence, for people.', resolve: eventMessage }),
  }),
})

/** An event and its place among all of the tenant. */
export const TenantEvent = builder.objectRef<TenantEventRow>('TenantEvent').implement({
  description: 'Something that happened in one of the runs of a tenant.',
  fields: (t) => ({
    cursor: t.string({ description: 'Its place: resume after it.', resolve: cursorOf }),
    runId: t.exposeID('runId', { description: 'The run.' }),
    event: t.field({ type: RunEvent, description: 'What happened in it.', resolve: (row) => row }),
  }),
})

const LogLine = builder.objectRef<EventRow>('LogLine').implement({
  description: 'A line that a step wrote.',
  fields: (t) => ({
    seq: t.exposeInt('seq', { description: 'Its number among the events of the run.' }),
    at: t.field({ type: 'DateTime', description: 'When it was written.', resolve: (row) => row.at }),
    stepKey: t.exposeString('stepKey', { nullable: true, description: 'The step that wrote it.' }),
    level: t.field({
      type: LogLevel,
      description: 'Its level.',
      resolve: ({ data }) => logLevels.find((level) => level === data?.['level']) ?? 'info',
    }),
    message: t.string({ description: 'The line.', resolve: ({ data }) => String(data?.['message'] ?? '') }),
  }),
})

/** A page of events. */
export const RunEventConnection = builder.connectionObject(
  { type: RunEvent, name: 'RunEventConnection', description: 'A page of events.' },
  { name: 'RunEventEdge', description: 'An event and its place in the list.' },
)
/** A page of log lines. */
export const LogLineConnection = builder.connectionObject(
  { type: LogLine, name: 'LogLineConnection', description: 'A page of log lines.' },
  { name: 'LogLineEdge', description: 'A log line and its place in the list.' },
)
