import { houseKinds } from './houses.ts'
import { stories } from './stories.ts'

for (const kind of houseKinds) stories(kind)
