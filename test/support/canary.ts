/**
 * Words that tests use where people have secrets and rows. Each begins like no other text does, so that a sweep over all
 * that a run of the tests leaves behind finds it wherever it stands; see docs/isolation.md.
 */
export const canaryBeginnings = { secret: 'zkq7v1m9x3w5t8r2', row: 'hq4j8n2y6d0p5b3c' } as const

/** A password or another secret of a test. */
export const secretCanary = (name: string): string => `${canaryBeginnings.secret}-${name}`

/** A value in a row of a tenant's data. */
export const rowCanary = (name: string): string => `${canaryBeginnings.row}-${name}`
