import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { z } from 'zod'

const shape = z.object({
  /** API keys of the demo's tenants: the API shows a key once, and the printed commands need it again. */
  tokens: z.record(z.string(), z.string()).default({}),
  /** Where the partner servers listened and which host keys they had: both are in the tenants' credentials. */
  partners: z.record(z.string(), z.object({ port: z.int(), hostKey: z.string(), password: z.string() })).default({}),
  finished: z.boolean().default(false),
})

/** What the demo keeps between starts, in a file for the owner's eyes only. */
export type Memory = z.output<typeof shape>

/** Opens the memory in `file`. `change` writes it at once, so that a demo that is cut off goes on where it was. */
export function openMemory(file: string): { readonly value: Memory; change(by: Partial<Memory>): void } {
  let value = shape.parse(existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {})
  return {
    get value() {
      return value
    },
    change(by) {
      value = { ...value, ...by }
      writeFileSync(file, JSON.stringify(value, null, 2), { mode: 0o600 })
    },
  }
}
