import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { hostileSftp } from '../../../support/hostile-sftp.ts'
import { smallContext } from '../../../support/small-context.ts'
import provisionRemote from '../../../../workers/processors/tenant/provision_remote.ts'

test('the folder is made on the server, and a repeat finds it', async () => {
  await using server = await hostileSftp()
  await using ctx = await smallContext({ secret: server.secret })
  await provisionRemote.run(ctx, { directory: 'inbox/daily' })
  await provisionRemote.run(ctx, { directory: 'inbox/daily' })
  expect((await stat(join(server.root, 'inbox/daily'))).isDirectory()).toBe(true)
})

test('a wrong password and another server are told apart', async () => {
  await using server = await hostileSftp()
  await using wrong = await smallContext({ secret: { ...server.secret, password: 'wrong' } })
  await expect(provisionRemote.run(wrong, { directory: 'inbox' })).rejects.toMatchObject({
    code: 'CREDENTIAL_REJECTED',
  })
  await using other = await smallContext({ secret: { ...server.secret, hostKey: `SHA256:${'A'.repeat(43)}` } })
  await expect(provisionRemote.run(other, { directory: 'inbox' })).rejects.toMatchObject({ code: 'HOST_KEY_CHANGED' })
  expect(await server.names()).toEqual([])
})
