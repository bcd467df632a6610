import { expect, it } from 'vitest'
import { WaitingBook } from './waiting-book.ts'

it('tells what a person must mend at once, the rest when it is stuck, and what is as it was wanted never', () => {
  const book = new WaitingBook({ afterMs: 600_000 })
  const waiting = [
    { host: 'a', reason: { gate: 'unkeyed', host: 'a' } },
    { host: 'd', reason: { gate: 'no-part', part: '' } },
    { host: 'e', reason: { gate: 'no-part', part: '' } },
    { host: 'f', reason: { gate: 'left' } },
    { host: '', reason: { gate: 'no-server' } },
  ] as const
  book.set('home', waiting, 0)
  expect(book.problems(1)).toEqual([expect.stringMatching(/^cluster home: a: .*bind --all/)])
  book.set('home', waiting, 500_000)
  expect(book.of('home').map(({ sinceMs }) => sinceMs)).toEqual([0, 0, 0, 0, 0])
  expect(book.problems(600_000)).toEqual([
    expect.stringContaining('a: '),
    'cluster home: d, e: its system has no Kubernetes part yet: apply the revision',
    'cluster home: no server of the cluster is connected, ready and free',
  ])
  // Waits for another thing are new ones, and what waits no longer is no problem.
  book.set('home', [{ host: 'd', reason: { gate: 'not-ready' } }], 600_001)
  expect(book.problems(600_002)).toEqual([])
  book.forget('home')
  expect(book.of('home')).toEqual([])
})
