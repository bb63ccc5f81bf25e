import { parse } from 'yaml'
import type { z } from 'zod'
import type { Processor } from '../../workers/define.ts'
import { processors } from '../../workers/processors/index.ts'
import type { Tenant } from './step-context.ts'

/** The examples of a page in one language, as they stand there. */
export const examplesOf = (page: string, language: string): string[] =>
  [...page.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].filter(([, of]) => of === language).map(([, , text = '']) => text)

type Step = { step_id: string; ps_type: string } & Record<string, unknown>

/** Runs the steps of an example one after another and gives their outputs by step. `{since}` is 2026-01-02. */
export async function runExample(t: Tenant, text: string): Promise<Record<string, unknown>> {
  const outputs: Record<string, unknown> = {}
  for (const { step_id, ps_type, ...settings } of parse(text) as Step[]) {
    const processor: Processor | undefined = processors.find(({ type }) => type === ps_type)
    if (!processor) throw new Error(`no processor ${ps_type}`)
    const given = { stepKey: step_id, values: { since: '2026-01-02' } }
    outputs[step_id] = await t.run(processor, settings as z.input<typeof processor.settings>, given)
  }
  return outputs
}
