import { describe, expect, it } from 'vitest'
import type { Caller } from '../api/caller.ts'
import { OperatorCalls } from './operator-calls.ts'

/** A stream that says one thing and then waits until it is told to stop. */
async function* waiting(signal: AbortSignal) {
  yield 'first'
  await new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()))
}

const never = new AbortController().signal
const operator = (notAfter: Date): Caller => ({ kind: 'operator', id: 'a'.repeat(64), name: 'ann', notAfter })

async function hear(calls: OperatorCalls, caller: Caller, onItem: () => void = () => {}) {
  const heard: string[] = []
  try {
    for await (const item of calls.stream(caller, never, waiting)) {
      heard.push(item)
      onItem()
    }
  } catch (error) {
    heard.push(error instanceof Error ? error.message : String(error))
  }
  return heard
}

describe('what an operator hears', () => {
  it('ends with the certificate it came with', async () => {
    const soon = operator(new Date(Date.now() + 100))
    expect(await hear(new OperatorCalls(), soon)).toEqual([
      'first',
      'the certificate of this operator has ended',
    ])
  })

  it('ends when the operator is removed, and not before', async () => {
    const calls = new OperatorCalls()
    const far = operator(new Date(Date.now() + 366 * 86_400_000))
    const heard = await hear(calls, far, () => setTimeout(() => calls.end('a'.repeat(64)), 20))
    expect(heard).toEqual(['first', 'this operator was removed'])
  })
})
