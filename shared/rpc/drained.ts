import type { Writable } from 'node:stream'

const EVENTS = ['drain', 'close', 'error'] as const

/** When a call takes more, or is over. Leaves no listener behind: a long stream waits as often as its reader is slow. */
export function drained(call: Writable): Promise<void> {
  return new Promise(resolve => {
    if (call.destroyed) return resolve()
    const done = () => {
      for (const event of EVENTS) call.off(event, done)
      resolve()
    }
    for (const event of EVENTS) call.on(event, done)
  })
}
