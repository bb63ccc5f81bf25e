import { expect, test } from 'vitest'
import { parsePipeline } from '../../shared/config/parse.ts'
import { sampleCatalog } from '../shared/config/sample-catalog.ts'
import files from './files.json' with { type: 'json' }

test.each(files)('$name: $problems', ({ text, problems }) => {
  const parsed = parsePipeline(text.join('\n'), { file: 'configs/x/y/z.yml', catalog: sampleCatalog })
  const found = 'problems' in parsed ? parsed.problems : []
  const errors = found.filter((problem) => problem.severity === 'error')
  expect(errors.map(({ line, column, code }) => `${line}:${column} ${code}`).sort()).toEqual(problems.toSorted())
})
