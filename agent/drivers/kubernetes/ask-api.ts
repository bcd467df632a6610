import type { IncomingMessage } from 'node:http'
import { request } from 'node:https'
import { reasonOf } from '../../../shared/errors.ts'
import { DeadlineError, pause, withDeadline } from '../../../shared/lifecycle.ts'
import { readObject, textAt } from '../../../shared/read-value.ts'
import { VERSION } from '../../../shared/version.ts'
import { redact } from '../redact.ts'
import { done, failed } from '../result.ts'
import type { KubeResult } from './kubectl.ts'
import type { ApiAccess } from './read-kubeconfig.ts'

export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  /** With its query. */
  readonly path: string
  readonly body?: string | undefined
  /** Of the body; absent: JSON. */
  readonly contentType?: string | undefined
  readonly deadlineMs: number
  readonly maxAnswerBytes: number
  readonly signal?: AbortSignal | undefined
}

/** Methods that change nothing when they are sent twice, or that name what they change. */
const MAY_REPEAT: ReadonlySet<ApiRequest['method']> = new Set(['GET', 'PATCH'])

/**
 * Asks an API server on a connection of its own: certificates may be others the next time, and what is asked after a restart must
 * not go to what was there before it. Asks again, within the time, where the server says when (it begins, or has too much to do). The text of
 * its answer; only 2xx is one.
 */
export async function askApi(access: ApiAccess, asked: ApiRequest): Promise<KubeResult<string>> {
  const { method, path, signal } = asked
  const what = `${method} ${path.split('?')[0]?.slice(0, 120)}`
  if (signal?.aborted) return failed('cancelled', `${what}: cancelled`)
  let last: Answer | undefined
  try {
    return await withDeadline(asked.deadlineMs, signal, async stop => {
      for (;;) {
        last = await send(access, asked, stop)
        if (last.status >= 200 && last.status < 300) return done(last.text)
        const { again } = last
        if (again === undefined || !MAY_REPEAT.has(method)) return refusal(what, last)
        if (!(await pause(again * 1_000, stop))) throw stop.reason
      }
    })
  } catch (error) {
    if (signal?.aborted) return failed('cancelled', `${what}: cancelled`)
    if (error instanceof AnswerError) return failed('unreadable', `${what}: ${error.message}`)
    if (error instanceof DeadlineError) {
      // It was asked to wait until the time was over: what it said is worth more than that it was late.
      if (last) return refusal(what, last)
      return failed('timed-out', `${what}: no answer within ${asked.deadlineMs / 1_000} s`)
    }
    return failed('command', `${what}: ${redact(reasonOf(error))}`)
  }
}

/** What an answer that is none says. */
function refusal(what: string, { status: code, text }: Answer): KubeResult<never> {
  const object = readObject(text)
  // Of a kind that it does not know at all, an API server says so in words.
  const status = textAt(object, 'reason') ?? (code === 404 && !object ? 'NotFound' : undefined)
  const said = redact(textAt(object, 'message') ?? (text.trim() === '' ? `HTTP ${code}` : text))
  const reason = `${what}: error from server (${status ?? `HTTP ${code}`}): ${said}`
  return { ...failed(status === 'NotFound' ? 'not-found' : 'command', reason), status, said }
}

class AnswerError extends Error {
  override readonly name = 'AnswerError'
}

interface Answer {
  readonly status: number
  readonly text: string
  /** In so many seconds the server wants to be asked again; undefined: it says nothing of that. */
  readonly again: number | undefined
}

function send(
  { url, ca, cert, key }: ApiAccess,
  { method, path, body, contentType, maxAnswerBytes }: ApiRequest,
  signal: AbortSignal,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        method,
        path,
        host: url.hostname.replace(/^\[|\]$/g, ''),
        port: url.port || 443,
        ca,
        cert,
        key,
        agent: false,
        signal,
        headers: {
          accept: 'application/json, */*',
          'user-agent': `muster-agent/${VERSION}`,
          ...(body !== undefined && {
            'content-type': contentType ?? 'application/json',
            'content-length': Buffer.byteLength(body),
          }),
        },
      },
      answer => {
        const pieces: Buffer[] = []
        let bytes = 0
        answer.on('data', (piece: Buffer) => {
          bytes += piece.length
          if (bytes > maxAnswerBytes) {
            sent.destroy(new AnswerError(`answered with more than ${maxAnswerBytes} bytes`))
            return
          }
          pieces.push(piece)
        })
        answer.once('error', reject)
        answer.once('end', () =>
          // Cut off in the middle is an error of its own; here the answer is whole.
          resolve({
            status: answer.statusCode ?? 0,
            text: Buffer.concat(pieces).toString('utf8'),
            again: askAgainIn(answer),
          }),
        )
      },
    )
    sent.once('error', reject)
    sent.end(body)
  })
}

function askAgainIn({ statusCode = 0, headers }: IncomingMessage): number | undefined {
  const busy = statusCode === 429 || statusCode >= 500
  const seconds = /^\d{1,4}$/.exec(headers['retry-after'] ?? '')?.[0]
  return busy && seconds !== undefined ? Math.max(1, Number(seconds)) : undefined
}
