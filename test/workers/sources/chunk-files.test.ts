import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { expect, test } from 'vitest'
import { chunkFiles } from '../../../workers/sources/chunk-files.ts'

async function* megabytes(count: number): AsyncGenerator<Buffer> {
  // Every piece ends with a line break inside quotes, the next one begins by closing them.
  for (let index = 0; index < count; index++) {
    const piece = Buffer.alloc(1 << 20, 'x')
    piece.write(index % 2 ? 'y",1\n' : '2,"')
    if (index % 2) piece.write('3,z', piece.length - 4)
    piece[piece.length - 1] = 0x0a
    yield piece
  }
}

test('files end with a record, none is lost, and at most two wait', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'chunks-'))
  try {
    let made = 0
    const source = Readable.from(
      (async function* () {
        for await (const piece of megabytes(601)) {
          made++
          yield piece
        }
      })(),
      { objectMode: false, highWaterMark: 1 << 20 },
    )
    const sizes: number[] = []
    let total = 0
    for await (const file of chunkFiles(source, folder)) {
      sizes.push(file.bytes)
      total += file.bytes
      // One being read, two waiting, one being written, and what the pipe holds.
      expect(made * (1 << 20)).toBeLessThanOrEqual(total + 3 * 132 * (1 << 20))
      expect((await stat(file.path)).size).toBe(file.bytes)
      const text = await readFile(file.path)
      expect([...text.subarray(0, 3)].map((byte) => String.fromCharCode(byte)).join('')).toBe('2,"')
      await rm(file.path)
    }
    expect(total).toBe(601 * (1 << 20))
    expect(sizes.slice(0, -1).every((size) => size >= 128 * (1 << 20))).toBe(true)
  } finally {
    await rm(folder, { recursive: true })
  }
})

test('an error of the stream reaches the reader, and a reader that stops ends the stream', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'chunks-'))
  try {
    const broken = Readable.from(
      (async function* () {
        yield Buffer.from('1,2\n')
        throw new Error('broken')
      })(),
    )
    const readAll = async (): Promise<void> => {
      for await (const file of chunkFiles(broken, folder)) expect(file.bytes).toBe(4)
    }
    await expect(readAll()).rejects.toThrow('broken')
    const endless = Readable.from(
      (async function* () {
        for (;;) yield Buffer.alloc(1 << 20, 0x0a)
      })(),
    )
    for await (const file of chunkFiles(endless, folder)) {
      expect(file.bytes).toBeGreaterThan(0)
      break
    }
    expect(endless.destroyed).toBe(true)
  } finally {
    await rm(folder, { recursive: true })
  }
})
