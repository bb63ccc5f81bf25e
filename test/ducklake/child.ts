// A tenant's process with the engine of this folder.
import './engine.mjs'

await import('../../workers/process/child.ts')
