import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { compose, root } from './image.ts'

const read = (path: string): string => readFileSync(join(root, path), 'utf8')
const pages = ['deploy', 'operate', 'security', 'self-host', 'errors'].map((name) => `docs/${name}.md`)
const scriptsOf = (path: string): Record<string, string | undefined> =>
  (JSON.parse(read(path)) as { scripts: Record<string, string> }).scripts

/** Lines of commands: those of blocks, and what stands in a line of text. */
function commands(page: string): string[] {
  const text = read(page)
  const blocks = [...text.matchAll(/^```sh\n([\s\S]*?)^```/gm)].flatMap(([, block = '']) =>
    block.replaceAll('\\\n', ' ').split('\n'),
  )
  const prose = text.replaceAll(/^```[\s\S]*?^```/gm, '')
  return [...blocks, ...[...prose.matchAll(/`([^`\n]+)`/g)].map(([, code = '']) => code)].map((line) =>
    line.replace(/ # .*$/, '').trim(),
  )
}
/** What heading a link may name, as the pages are rendered. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-')

// Those whose help is quick and whole.
const explained = [
  'standalone/doctor/main.ts',
  'standalone/migrate.ts',
  'standalone/platform-key.ts',
  'workers/main.ts',
]
const helps = new Map<string, string>()
function helpOf(file: string): string {
  const known = helps.get(file) ?? execFileSync(process.execPath, [file, '--help'], { cwd: root, encoding: 'utf8' })
  helps.set(file, known)
  return known
}

/** What is wrong with a command: a script, a file or an option that is not there. */
function faultsOf(command: string): string[] {
  const [, prefix = '.', name] = /(?:^| )npm (?:run|--prefix (\S+) run)(?: --silent)? ([\w:-]+)(.*)/.exec(command) ?? []
  const scripts = name === undefined ? {} : scriptsOf(`${prefix}/package.json`)
  if (name !== undefined && scripts[name] === undefined) return [`${command}: there is no script ${name}`]
  const [, file, rest = ''] =
    /(?:^| )node (?:--env-file=\S+ )?([\w./-]+\.(?:ts|mjs))(.*)/.exec(command) ??
    (prefix === '.' && name !== undefined
      ? [command, scripts[name]?.split(' ').find((word) => word.endsWith('.ts')), command.split(' -- ')[1]]
      : [])
  if (file === undefined) return []
  if (!existsSync(join(root, file))) return [`${command}: there is no ${file}`]
  if (!explained.includes(file)) return []
  const options = (rest.match(/--[a-z-]{2,}/g) ?? []).filter((option) => !helpOf(file).includes(option))
  return options.map((option) => `${command}: ${file} takes no ${option}`)
}

test('every script, file and option that the pages name is there', () => {
  expect(pages.flatMap(commands).filter((command) => command.includes('npm ')).length).toBeGreaterThan(30)
  expect(pages.flatMap(commands).flatMap(faultsOf)).toEqual([])
  expect(faultsOf('npm run docter')).toHaveLength(1)
  expect(faultsOf('npm run doctor -- --brief')).toHaveLength(1)
  expect(faultsOf('node --env-file=x.env workers/man.ts')).toHaveLength(1)
})

test.for(pages)('%s: every link leads somewhere, to a heading where it names one', (page) => {
  const broken: string[] = []
  for (const [, target = ''] of read(page).matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^https?:/.test(target)) continue
    const [path = '', anchor] = target.split('#')
    const file = path === '' ? page : join(dirname(page), path)
    const isThere = existsSync(join(root, file))
    const headings =
      isThere && anchor !== undefined
        ? [...read(file).matchAll(/^#+ (.*)$/gm)].map(([, one = '']) => anchorOf(one))
        : []
    if (!isThere || (anchor !== undefined && !headings.includes(anchor))) broken.push(target)
  }
  expect(broken).toEqual([])
})

test('the containers that the pages name are services of the compose file', () => {
  const services = Object.keys(compose().services)
  const composed = pages.flatMap(commands).filter((command) => command.startsWith('docker compose'))
  expect(composed.filter((command) => !command.startsWith('docker compose -f deploy/compose.yml '))).toEqual([])
  const named = composed.flatMap((command) => /exec (?:--no-TTY )?([\w-]+)/.exec(command)?.[1] ?? [])
  const scaled = composed.flatMap((command) => /--scale ([\w-]+)=/.exec(command)?.[1] ?? [])
  expect([...new Set([...named, ...scaled])].sort()).toEqual(['control-plane', 'worker'])
  expect(services).toEqual(expect.arrayContaining([...named, ...scaled]))
})

test('Deno is told to serve with the rights that the tests give it', () => {
  const told = commands('docs/deploy.md').find((command) => command.startsWith('deno serve')) ?? ''
  const tested = read('test/edge/runtimes.ts')
  for (const option of told.match(/--(?:no-lock|node-modules-dir=manual|allow-[a-z]+)/g) ?? [])
    expect(tested).toContain(`'${option}'`)
  expect(told).toMatch(/ control-plane\/edge\.ts$/)
})

test('variables, figures and fields of the API that operators are told of are there', () => {
  const variables = new Set([...read('.env.example').matchAll(/^([A-Z_]+)=/gm)].map(([, name]) => name))
  const sources = ['control-plane', 'shared', 'standalone', 'workers'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.ts'))
      .map((path) => read(`${folder}/${path}`)),
  )
  const api = read('schema/schema.graphql')
  // Made by the reader in the shell, or codes of errors.
  const own =
    /^(OWNER_URL|SUPERUSER_URL|EMPTY_URL|(WEB|RUN)_PASSWORD|START|STOP|ALL|[A-Z]+_TOKEN|DISK_FULL|UNAVAILABLE|INTERNAL)$/
  const faults: string[] = []
  for (const page of ['docs/deploy.md', 'docs/operate.md', 'docs/security.md']) {
    const text = read(page)
    for (const [name] of text.matchAll(/\b[A-Z]{2,}(?:_[A-Z]+)+\b/g))
      if (!variables.has(name) && !own.test(name)) faults.push(`${page}: ${name}`)
    for (const [, name = ''] of text.matchAll(/`tributary_([a-z_]+)/g))
      if (
        name.includes('_') &&
        !sources.some((source) => source.includes(`'${name}'`) || source.includes(`  ${name}: {`))
      )
        faults.push(`${page}: tributary_${name}`)
    for (const [, name = ''] of text.matchAll(/`([a-z]+[A-Z]\w+)/g))
      if (!new RegExp(`\\b${name}\\b`).test(api)) faults.push(`${page}: ${name}`)
  }
  expect(faults).toEqual([])
})
