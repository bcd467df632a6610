import { connect, isIP } from 'node:net'
import type { GateProbe } from '../../shared/revision/safety.ts'
import type { Finding } from './gate-answer.ts'
import { networkFinding } from './network-error.ts'

/** Whether something takes a connection. Nothing is sent; the connection is closed again at once. */
export function probeTcp(
  { host, port }: Extract<GateProbe, { kind: 'tcp' }>,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<Finding> {
  const place = `${host.includes(':') ? `[${host}]` : host}:${port}`
  return new Promise(resolve => {
    // A lookup that hangs is not yet an answer of who was asked. For an address there is none.
    let isLookedUp = isIP(host) !== 0
    const socket = connect({ host, port })
    const finish = (finding: Finding) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', stop)
      socket.destroy()
      resolve(finding)
    }
    const stop = () => finish({ verdict: 'unavailable', reason: `${place}: stopped` })
    const timer = setTimeout(() => {
      finish(
        isLookedUp
          ? { verdict: 'unhealthy', reason: `${place}: no connection within ${deadlineMs} ms` }
          : {
              verdict: 'unavailable',
              reason: `${place}: the name was not looked up within ${deadlineMs} ms`,
            },
      )
    }, deadlineMs)
    signal.addEventListener('abort', stop, { once: true })
    socket.on('lookup', error => {
      isLookedUp = error === null || error === undefined
    })
    socket.on('connect', () => finish({ verdict: 'healthy', reason: `${place} takes connections` }))
    socket.on('error', error => finish(networkFinding(error, place)))
    if (signal.aborted) stop()
  })
}
