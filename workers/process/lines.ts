import type { Readable } from 'node:stream'

const lineMax = 16_384

/**
 * Hands a stream on line by line, its line feeds kept; what is left at the end too. A line longer than 16 Ki characters is
 * cut there and marked, its rest is dropped: nothing is ever handed on in two halves.
 */
export function passLines(stream: Readable, pass: (line: string) => void): void {
  let open = ''
  let isCut = false
  const add = (text: string): void => {
    if (isCut) return
    open += text
    isCut = open.length > lineMax
    if (isCut) open = open.slice(0, lineMax)
  }
  const end = (feed: string): void => {
    if (open !== '' || feed !== '') pass(`${open}${isCut ? '…' : ''}${feed}`)
    open = ''
    isCut = false
  }
  stream.setEncoding('utf8')
  stream.on('data', (chunk: string) => {
    const lines = chunk.split('\n')
    const rest = lines.pop() ?? ''
    for (const line of lines) {
      add(line)
      end('\n')
    }
    add(rest)
  })
  stream.on('end', () => end(''))
  stream.on('error', () => end(''))
}
