import type { House } from './house.ts'

/** How a part of a deployment stands, in a sentence, and what to do about it. */
export type Finding =
  | { state: 'ok'; says: string }
  | { state: 'warn' | 'fail'; says: string; todo: string }
  /** Not looked at, since another part that it needs is not there. */
  | { state: 'skipped'; says: string }

/** Looks at one part of a deployment and changes nothing in it. */
export type Check = {
  name: string
  /** False where the deployment has no such part. */
  concerns(house: House): boolean
  /** What it found, never thrown for what an operator can repair. `signal` aborts when its time is over. */
  look(house: House, signal: AbortSignal): Promise<Finding | readonly Finding[]>
}

/** As it should be. */
export const ok = (says: string): Finding => ({ state: 'ok', says })
/** Works, with a risk that somebody should know. */
export const warn = (says: string, todo: string): Finding => ({ state: 'warn', says, todo })
/** Does not work, or is not safe. */
export const fail = (says: string, todo: string): Finding => ({ state: 'fail', says, todo })
/** Cannot be looked at. */
export const skipped = (says: string): Finding => ({ state: 'skipped', says })
