import { type ClientRequest, type IncomingMessage, request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import { isIP } from 'node:net'
import type { GateProbe } from '../../shared/revision/safety.ts'
import type { System } from '../system/system.ts'
import type { Finding } from './gate-answer.ts'
import { networkFinding } from './network-error.ts'

type HttpProbe = Extract<GateProbe, { kind: 'http' }>

/** Where NixOS, and nearly every other system, keeps the authorities that it trusts. */
const AUTHORITIES = '/etc/ssl/certs/ca-certificates.crt'
const MAX_AUTHORITIES_BYTES = 8 * 1024 * 1024
/** So much of a body is looked through and no more. */
const MAX_BODY_BYTES = 1024 * 1024

/**
 * Asks a URL once, without following redirects: where it leads to is another question, for another gate. A certificate is
 * checked against the machine's own authorities, read anew each time because a change may bring others; Node's list is of
 * its own making and does not count. A certificate that does not hold is unhealthy, whatever stands behind it.
 */
export async function probeHttp(
  system: System,
  probe: HttpProbe,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<Finding> {
  const url = new URL(probe.url)
  if (url.protocol !== 'https:') return ask(probe, url, undefined, deadlineMs, signal)
  const reading = await system.readFile(AUTHORITIES, MAX_AUTHORITIES_BYTES)
  if (reading.kind !== 'file' || reading.truncated) {
    return {
      verdict: 'unavailable',
      reason: `${AUTHORITIES} cannot be read, so no certificate can be checked`,
    }
  }
  return ask(probe, url, reading.bytes, deadlineMs, signal)
}

function ask(
  probe: HttpProbe,
  url: URL,
  authorities: Buffer | undefined,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<Finding> {
  return new Promise(resolve => {
    // A lookup that hangs is not yet an answer of who was asked. For an address there is none.
    let isLookedUp = isIP(url.hostname.replace(/^\[|\]$/g, '')) !== 0
    const options = {
      // One question, one connection: a pooled one would tell of the service as it was before.
      agent: false,
      headers: { 'user-agent': 'muster-gate', accept: '*/*', connection: 'close' },
    } as const
    const asked: ClientRequest =
      authorities === undefined
        ? requestHttp(url, options)
        : requestHttps(url, { ...options, ca: authorities })
    const finish = (finding: Finding) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', stop)
      asked.destroy()
      resolve(finding)
    }
    const stop = () => finish({ verdict: 'unavailable', reason: `${url.origin}: stopped` })
    const timer = setTimeout(() => {
      finish(
        isLookedUp
          ? { verdict: 'unhealthy', reason: `${url.origin}: no answer within ${deadlineMs} ms` }
          : {
              verdict: 'unavailable',
              reason: `${url.origin}: the name was not looked up within ${deadlineMs} ms`,
            },
      )
    }, deadlineMs)
    signal.addEventListener('abort', stop, { once: true })
    asked.on('socket', socket => {
      socket.on('lookup', error => {
        isLookedUp = error === null || error === undefined
      })
    })
    asked.on('error', error => finish(networkFinding(error, url.origin)))
    asked.on('response', response => {
      readBody(response, probe.contains !== undefined).then(
        body => finish(judgeAnswer(probe, response.statusCode ?? 0, body)),
        (error: unknown) => finish(networkFinding(error, url.origin)),
      )
    })
    asked.end()
    if (signal.aborted) stop()
  })
}

interface Body {
  readonly text: string
  readonly cut: boolean
}

async function readBody(response: IncomingMessage, wanted: boolean): Promise<Body> {
  if (!wanted) return { text: '', cut: false }
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of response) {
    const bytes = Buffer.from(chunk)
    chunks.push(bytes.subarray(0, MAX_BODY_BYTES - length))
    length += bytes.length
    if (length > MAX_BODY_BYTES) break
  }
  return { text: Buffer.concat(chunks).toString('utf8'), cut: length > MAX_BODY_BYTES }
}

function judgeAnswer({ status, contains }: HttpProbe, got: number, { text, cut }: Body): Finding {
  const isRight = status === undefined ? got >= 200 && got <= 399 : got === status
  if (!isRight) {
    const expected = status === undefined ? 'from 200 to 399' : String(status)
    return { verdict: 'unhealthy', reason: `answered with status ${got}, not ${expected}`, output: text }
  }
  if (contains !== undefined && !text.includes(contains)) {
    const where = cut ? `the first ${MAX_BODY_BYTES} bytes of the body do` : 'the body does'
    const reason = `answered with status ${got}, but ${where} not contain ${JSON.stringify(contains)}`
    return { verdict: 'unhealthy', reason, output: text }
  }
  return { verdict: 'healthy', reason: `answered with status ${got}` }
}
