import { expect, it } from 'vitest'
import { createLog } from './log.ts'

it('writes one JSON object a line, with errors, big numbers and secrets made fit for it', () => {
  const lines: string[] = []
  const log = createLog(
    'info',
    line => lines.push(line),
    () => new Date(0),
  ).child({ part: 'x' })
  log.debug({}, 'not wanted')
  log.info(
    { n: 5n, token: 'abc', deep: { secret: 's' }, err: new Error('broken', { cause: new Error('why') }) },
    'done',
  )
  expect(lines).toHaveLength(1)
  expect(lines[0]?.endsWith('\n')).toBe(true)
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({
    time: '1970-01-01T00:00:00.000Z',
    level: 'info',
    msg: 'done',
    part: 'x',
    n: '5',
    token: '[removed]',
    deep: { secret: '[removed]' },
    err: { message: 'broken', cause: { message: 'why' } },
  })
})
