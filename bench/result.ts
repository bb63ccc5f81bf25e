/**
 * One figure of a bench or a proof: `RESULT <name> <value> <unit> goal <op> <goal> ok|short`. Answers whether it is met.
 * Without a goal it only tells.
 */
export function result(name: string, value: number, unit: string, goal?: { op: '<=' | '>='; value: number }): boolean {
  const isMet = goal === undefined || (goal.op === '<=' ? value <= goal.value : value >= goal.value)
  const shown = Number(value.toFixed(2))
  console.log(
    `RESULT ${name} ${shown} ${unit}${goal ? ` goal ${goal.op} ${goal.value} ${isMet ? 'ok' : 'short'}` : ''}`,
  )
  return isMet
}
