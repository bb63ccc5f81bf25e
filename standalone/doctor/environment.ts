import { statSync } from 'node:fs'
import { edgeEnv } from '../../control-plane/env.ts'
import { readEnv } from '../../shared/env.ts'
import { AppError } from '../../shared/errors.ts'
import { workerEnv } from '../../workers/env.ts'
import { controlPlaneEnv } from '../control-plane-env.ts'
import { standaloneEnv } from '../env.ts'
import { type Check, fail, type Finding, ok, warn } from './finding.ts'
import type { House, Part } from './house.ts'

const forms: Readonly<Record<Part, readonly Parameters<typeof readEnv>[0][]>> = {
  embedded: [standaloneEnv],
  'self-host': [controlPlaneEnv, workerEnv],
  'control-plane': [controlPlaneEnv],
  worker: [workerEnv],
  edge: [edgeEnv],
}

/** Every variable that the processes of this deployment read, in the form in which they read it, and who can read `.env`. */
export const environment: Check = {
  name: 'environment',
  concerns: () => true,
  async look({ part, variables }) {
    const faults = [...new Set(forms[part].flatMap((form) => faultsOf(form, variables)))]
    const senderless = part === 'embedded' && variables['SMTP_URL'] && !variables['SMTP_FROM']
    if (senderless) faults.push('SMTP_FROM: required with SMTP_URL')
    return [
      ...faults.map((fault) => fail(fault, 'Correct it; .env.example says what each variable holds.')),
      ...(faults.length === 0 ? [ok(`It can be read, for ${part}.`)] : []),
      ...openFile(variables),
    ]
  },
}

function faultsOf(form: (typeof forms)[Part][number], variables: House['variables']): string[] {
  try {
    readEnv(form, variables)
    return []
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    return error.message.split('\n  ').slice(1)
  }
}

// Whoever can read the file has the platform keys.
function openFile(variables: House['variables']): Finding[] {
  const mode = variables['PLATFORM_KEYS'] ? statSync('.env', { throwIfNoEntry: false })?.mode : undefined
  return mode !== undefined && (mode & 0o077) !== 0 && process.platform !== 'win32'
    ? [warn('Other users of this machine may read .env.', 'Run: chmod 600 .env')]
    : []
}
