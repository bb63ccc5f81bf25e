import pino from 'pino'
import { type Log, withoutSecrets } from '../shared/log.ts'

/** The log of a Node process: JSON lines on standard error, without secrets. */
export function processLog(level: string): Log {
  const logger = pino({ level, base: { pid: process.pid } }, pino.destination({ dest: 2, sync: true }))
  return withoutSecrets({
    info: (event, fields) => logger.info(fields ?? {}, event),
    warn: (event, fields) => logger.warn(fields ?? {}, event),
    error: (event, fields) => logger.error(fields ?? {}, event),
  })
}
