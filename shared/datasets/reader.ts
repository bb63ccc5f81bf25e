import type { Clock } from '../clock.ts'
import { AppError, type ErrorData, errorFromData, isErrorCode } from '../errors.ts'
import type { SigningKeys } from '../secrets/signing-keys.ts'
import { mintReadToken } from './read-token.ts'

/** What can be read of a tenant's lake. */
export type ReadOperation =
  | 'tables'
  | 'rows'
  | 'versions'
  | 'activity'
  | 'frequency'
  | 'quality'
  | 'lineage'
  | 'nothing'

/** A read of one tenant. `table` is empty where no table is meant. */
export type DataRead = {
  tenantId: string
  operation: ReadOperation
  table: string
  arguments: Record<string, unknown>
}

/** Where a row stands in its list. */
export type DataPosition = readonly [string, string]
/** A row of an answer: its place in the list, and what the operation gives. */
export type DataRow = { position: DataPosition }

/** A worker that answers reads. */
export type ReaderPlace = { worker: string; url: string }

/**
 * Reads rows of a tenant where they are: the one call from the control plane to a worker. Nothing of an answer is kept.
 * Throws what the worker throws, and UNAVAILABLE when it does not answer.
 */
export type DataReader = {
  read(place: ReaderPlace, read: DataRead, signal: AbortSignal): Promise<DataRow[]>
}

const timeoutMs = 15_000

/** Reads over HTTP: `POST <url>/read` with a token for this very read. */
export const httpReader = ({ signing, clock }: { signing: SigningKeys; clock: Clock }): DataReader => ({
  async read({ worker, url }, read, signal) {
    const body = JSON.stringify(read)
    const token = await mintReadToken(signing, { ...read, worker, body }, clock.now())
    try {
      const response = await fetch(`${url}/read`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body,
        redirect: 'manual',
        signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
      })
      // The house's own, as the token is: what it says is taken as it is.
      const answer = (await response.json()) as { rows?: DataRow[]; error?: ErrorData }
      if (answer.rows) return answer.rows
      if (answer.error && isErrorCode(answer.error.code)) throw errorFromData(answer.error)
      throw new Error(`status ${response.status}`)
    } catch (cause) {
      if (cause instanceof AppError && cause.code !== 'UNAUTHENTICATED') throw cause
      throw new AppError('UNAVAILABLE', 'The worker that has the tables does not answer.', { cause })
    }
  },
})
