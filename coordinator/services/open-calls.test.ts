import { status } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import { systemClock } from '../../shared/clock.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import type { Caller } from '../api/caller.ts'
import { OpenCalls } from './open-calls.ts'

/** A stream that says one thing and then waits until it is told to stop. */
async function* waiting(signal: AbortSignal) {
  yield 'first'
  await new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()))
}

const never = new AbortController().signal
const ID = 'a'.repeat(64)
const far = new Date(Date.now() + 366 * 86_400_000)
const operator = (notAfter: Date, issuer = 'old'): Caller => ({
  kind: 'operator',
  id: ID,
  name: 'ann',
  notAfter,
  issuer,
})
const machine = (notAfter: Date, issuer = 'old'): Caller => ({ kind: 'machine', id: ID, notAfter, issuer })
const callers = [
  ['an operator', operator],
  ['a machine', machine],
] as const

async function hear(calls: OpenCalls, caller: Caller, onItem: () => void = () => {}) {
  const heard: unknown[] = []
  try {
    for await (const item of calls.stream(caller, never, waiting)) {
      heard.push(item)
      onItem()
    }
  } catch (error) {
    heard.push(error instanceof RpcError ? [status[error.code], error.message] : error)
  }
  return heard
}

describe.each(callers)('what %s is being answered', (_, callerUntil) => {
  it('ends with the certificate it came with', async () => {
    const soon = callerUntil(new Date(Date.now() + 100))
    expect(await hear(new OpenCalls(systemClock), soon)).toEqual([
      'first',
      ['UNAUTHENTICATED', 'the certificate has ended; renew it and connect anew'],
    ])
  })

  it('ends when the authority of its certificate is dropped, and not with another', async () => {
    const calls = new OpenCalls(systemClock)
    const drop = (dropped: string) => calls.endIssuedBy(pin => pin !== dropped)
    const kept = hear(calls, callerUntil(far, 'new'))
    const heard = await hear(calls, callerUntil(far), () => setTimeout(() => drop('old'), 20))
    const told = 'the authority of this certificate was dropped; ask for a new one'
    expect(heard).toEqual(['first', ['UNAUTHENTICATED', told]])
    drop('new')
    expect(await kept).toEqual(heard)
  })
})

describe('the open calls of one', () => {
  it('end when an operator is removed, and not those of a machine with its key', async () => {
    const calls = new OpenCalls(systemClock)
    const other = hear(calls, machine(far))
    const heard = await hear(calls, operator(far), () => setTimeout(() => calls.endOperator(ID), 20))
    expect(heard).toEqual(['first', ['PERMISSION_DENIED', 'this operator was removed']])
    calls.endMachine(ID, 'sold')
    expect(await other).toEqual(['first', ['PERMISSION_DENIED', 'sold']])
  })

  it('let go at once of what they read, even where the caller takes nothing more, and then say why they ended', async () => {
    const calls = new OpenCalls(systemClock)
    let isOpen = true
    async function* reading() {
      try {
        for (;;) yield 'piece'
      } finally {
        isOpen = false
      }
    }
    const items = calls.stream(machine(far), never, reading)
    expect(await items.next()).toEqual({ done: false, value: 'piece' })
    calls.endMachine(ID, 'sold')
    await expect.poll(() => isOpen).toBe(false)
    await expect(items.next()).rejects.toMatchObject({ code: status.PERMISSION_DENIED, message: 'sold' })
  })

  it('say why they ended, not what that did to what they read', async () => {
    const calls = new OpenCalls(systemClock)
    async function* failing(signal: AbortSignal) {
      yield 'first'
      await new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()))
      throw new DOMException('aborted', 'AbortError')
    }
    const items = calls.stream(machine(far), never, failing)
    await items.next()
    setTimeout(() => calls.endMachine(ID, 'sold'), 20)
    await expect(items.next()).rejects.toThrow(/^sold$/)
  })
})
