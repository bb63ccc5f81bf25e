import type { Tx } from '../../shared/db/db.ts'
import type { Ports } from '../../shared/ports.ts'
import type { Context } from '../context.ts'

/**
 * The same context inside of one transaction: what opens a transaction of its own by it gets a part of that one. Hints to
 * others and work for afterwards wait until `committed`, and are forgotten when that never comes.
 */
export function insideOf(context: Context): { context(tx: Tx): Context; committed(): void } {
  let isOpen = true
  const afterwards: (() => void)[] = []
  return {
    context(tx) {
      const { hub } = context.ports
      const ports: Ports = {
        ...context.ports,
        db: tx,
        hub: { ...hub, wait: hub.wait.bind(hub), notify: (run) => void afterwards.push(() => hub.notify(run)) },
      }
      return {
        ...context,
        // What was read outside may be older than what is written here.
        loaders: new Map(),
        later: (work) => void afterwards.push(() => context.later(work)),
        get ports() {
          return isOpen ? ports : context.ports
        },
      }
    },
    committed() {
      isOpen = false
      for (const act of afterwards) act()
    },
  }
}
