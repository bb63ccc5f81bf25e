import { and, desc, eq, inArray, isNull, lt, or, sql } from 'drizzle-orm'
import { pipeline, pipelineRun, runStep } from '../../schema/tables/index.ts'
import { AppError } from '../../shared/errors.ts'
import { discardStep } from '../../shared/runs/ledger.ts'
import { authOf, type Context, inTenant, readInTenant } from '../context.ts'
import { type Page, type PageArgs, readPage } from '../graphql/page.ts'
import type { StepRow } from './read-runs.ts'

/** A failed step that nobody has run again or discarded, with its run's pipeline. */
export type DeadLetterRow = { step: StepRow; pipelinePath: string }

const ended = ['succeeded', 'failed', 'cancelled', 'timed_out'] as const
const reasonCharsMax = 500

/** The tenant's dead letters, the last that failed first. */
export function listDeadLetters(context: Context, args: PageArgs): Promise<Page<DeadLetterRow>> {
  const { tenantId } = authOf(context)
  // Ids of runs grow with time; the moment of the failure itself may be the same for two.
  const key = sql<string>`${runStep.runId} || ' ' || ${runStep.stepKey}`
  return readPage(context, args, {
    list: ['deadLetters', tenantId],
    position: ({ step }) => [step.runId, step.stepKey],
    read: (limit, after) =>
      readInTenant(context, (db) =>
        db
          .select({ step: runStep, pipelinePath: pipeline.path })
          .from(runStep)
          .innerJoin(pipelineRun, and(eq(pipelineRun.tenantId, runStep.tenantId), eq(pipelineRun.runId, runStep.runId)))
          .innerJoin(pipeline, and(eq(pipeline.tenantId, runStep.tenantId), eq(pipeline.id, pipelineRun.pipelineId)))
          .where(
            and(
              eq(runStep.tenantId, tenantId),
              eq(runStep.state, 'failed'),
              isNull(runStep.discardedAt),
              inArray(pipelineRun.state, [...ended]),
              after
                ? or(
                    lt(runStep.runId, after[0]),
                    and(eq(runStep.runId, after[0]), sql`${key} < ${`${after[0]} ${after[1]}`}`),
                  )
                : undefined,
            ),
          )
          .orderBy(desc(runStep.runId), sql`${key} desc`)
          .limit(limit),
      ),
  })
}

/**
 * Takes a failed step off the list for good; its run stays as it ended. Throws NOT_FOUND when no such step is on the
 * list: it never failed, was discarded before, or its run goes on.
 */
export async function discardDeadLetter(
  context: Context,
  input: { runId: string; stepKey: string; reason?: string | null | undefined },
): Promise<void> {
  const { runId, stepKey } = input
  const reason = (input.reason ?? '').slice(0, reasonCharsMax)
  const isDone = await inTenant(context, (tx, { actor }) =>
    discardStep(tx, { runId, stepKey, reason, actor, requestId: context.requestId }),
  )
  if (!isDone) throw new AppError('NOT_FOUND', 'There is no such dead letter.')
}
