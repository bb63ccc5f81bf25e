import { houseKinds } from './houses.ts'
import { stories } from './stories.ts'

stories(houseKinds.deno)
