import { spawn } from 'node:child_process'
import { getEventListeners, once } from 'node:events'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { DeadlineError, Disposers, openToMany, pause, untilAborted, withDeadline } from './lifecycle.ts'

describe('disposers', () => {
  it('release all in reverse order, whichever of them fail, and report every failure', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.boolean(), { maxLength: 8 }), async fails => {
        const disposers = new Disposers()
        const released: number[] = []
        for (const [index, failing] of fails.entries()) {
          disposers.defer(async () => {
            released.push(index)
            if (failing) throw new Error(`release ${index}`)
          })
        }
        const error = await disposers[Symbol.asyncDispose]().then(
          () => undefined,
          (thrown: unknown) => thrown,
        )
        expect(released).toEqual([...fails.keys()].reverse())
        const failed = fails.filter(failing => failing).length
        if (failed === 0) expect(error).toBeUndefined()
        else if (failed === 1) expect(error).toMatchObject({ message: /^release/ })
        else expect(error).toMatchObject({ errors: { length: failed } })
      }),
    )
  })

  it('take resources of both kinds, and release each once', async () => {
    const disposers = new Disposers()
    const released: string[] = []
    disposers.use({ [Symbol.dispose]: () => void released.push('at once') })
    disposers.use({ [Symbol.asyncDispose]: async () => void released.push('in time') })
    await disposers[Symbol.asyncDispose]()
    await disposers[Symbol.asyncDispose]()
    expect(released).toEqual(['in time', 'at once'])
  })
})

describe('a signal that is open to many', () => {
  it('takes as many as wait on it at once, without a warning, and keeps none of them', async () => {
    const warnings: Error[] = []
    const onWarning = (warning: Error) => void warnings.push(warning)
    process.on('warning', onWarning)
    try {
      const controller = openToMany()
      const { signal } = controller
      const waits = Array.from({ length: 100 }, () => pause(60_000, signal))
      expect(getEventListeners(signal, 'abort')).toHaveLength(100)
      controller.abort()
      expect(new Set(await Promise.all(waits))).toEqual(new Set([false]))
      expect(getEventListeners(signal, 'abort')).toEqual([])
      // Warnings are told a turn later.
      await new Promise(resolve => setImmediate(resolve))
      expect(warnings).toEqual([])
    } finally {
      process.off('warning', onWarning)
    }
  })
})

describe('waiting', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())
  const never = () => new Promise<never>(() => {})

  it('gives what the work gives, and leaves neither timer nor listener behind', async () => {
    const { signal } = new AbortController()
    expect(await withDeadline(1_000, signal, async () => 'done')).toBe('done')
    await expect(withDeadline(1_000, signal, () => Promise.reject(new Error('broken')))).rejects.toThrow(
      'broken',
    )
    expect(vi.getTimerCount()).toBe(0)
    expect(getEventListeners(signal, 'abort')).toEqual([])
  })

  it('ends work at its deadline, tells it so, and not a millisecond earlier', async () => {
    let told: unknown
    const ended = vi.fn()
    const working = withDeadline(1_000, undefined, signal => {
      signal.addEventListener('abort', () => {
        told = signal.reason
      })
      return never()
    }).catch(ended)
    await vi.advanceTimersByTimeAsync(999)
    expect(ended).not.toHaveBeenCalled()
    await vi.advanceTimersByTimeAsync(1)
    await working
    expect(ended).toHaveBeenCalledWith(expect.any(DeadlineError))
    expect(told).toBeInstanceOf(DeadlineError)
  })

  it('ends work whose caller gives up, for the reason of the caller, also when that was before it began', async () => {
    const why = new Error('stopped')
    const controller = new AbortController()
    const working = withDeadline(1_000, controller.signal, never)
    controller.abort(why)
    await expect(working).rejects.toBe(why)
    await expect(withDeadline(1_000, controller.signal, never)).rejects.toBe(why)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('pauses for the whole time, or less when it is told to stop', async () => {
    const controller = new AbortController()
    const whole = pause(50, controller.signal)
    await vi.advanceTimersByTimeAsync(50)
    expect(await whole).toBe(true)
    const cut = pause(50, controller.signal)
    controller.abort()
    expect(await cut).toBe(false)
    expect(await pause(50, controller.signal)).toBe(false)
    await untilAborted(controller.signal)
    expect(vi.getTimerCount()).toBe(0)
    expect(getEventListeners(controller.signal, 'abort')).toEqual([])
  })
})

describe('the signal of the process', () => {
  it('fires at the first SIGTERM, and a second one ends the process as the system would', async () => {
    const program = `
      const { signalOfProcess } = await import(${JSON.stringify(join(import.meta.dirname, 'lifecycle.ts'))})
      const signal = signalOfProcess()
      signal.addEventListener('abort', () => console.log(signal.reason.message))
      setInterval(() => {}, 1000)
      console.log('ready')`
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', program], {
      cwd: join(import.meta.dirname, '..'),
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    try {
      let said = ''
      child.stdout.on('data', (data: Buffer) => {
        said += data.toString()
      })
      const heard = (text: string) => expect.poll(() => said, { timeout: 20_000 }).toContain(text)
      await heard('ready')
      child.kill('SIGTERM')
      await heard('received SIGTERM')
      const ended = once(child, 'exit')
      child.kill('SIGTERM')
      expect(await ended).toEqual([null, 'SIGTERM'])
    } finally {
      child.kill('SIGKILL')
    }
  })
})
