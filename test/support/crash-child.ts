// Stands in for a tenant's process that goes wrong: it writes what it was given to its standard error and dies of it.
process.on('message', (message: { kind: string; job?: { secret: { password: string } } }) => {
  if (message.kind === 'bind') process.send?.({ kind: 'bound' })
  if (message.kind !== 'run') return
  const password = message.job?.secret.password ?? ''
  process.stderr.write(`half of a line: ${password.slice(0, 5)}`)
  process.stderr.write(`${password.slice(5)}\n`)
  console.error(new Error('outer', { cause: { config: { password, basic: Buffer.from(`u:${password}`) } } }))
  setTimeout(() => {
    throw new Error(`login failed with ${password}`)
  })
})
process.send?.({ kind: 'ready' })
