import { request } from 'node:https'
import { reasonOf } from '../../../shared/errors.ts'
import { DeadlineError, withDeadline } from '../../../shared/lifecycle.ts'
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

/**
 * Asks an API server once, on a connection of its own: certificates may be others the next time, and what is asked after a restart must
 * not go to what was there before it. The text of its answer; only 2xx is one.
 */
export async function askApi(access: ApiAccess, asked: ApiRequest): Promise<KubeResult<string>> {
  const { method, path, signal } = asked
  const what = `${method} ${path.split('?')[0]?.slice(0, 120)}`
  if (signal?.aborted) return failed('cancelled', `${what}: cancelled`)
  try {
    const { status, text } = await withDeadline(asked.deadlineMs, signal, stop => send(access, asked, stop))
    if (status >= 200 && status < 300) return done(text)
    const said = readObject(text)
    const reason = textAt(said, 'reason')
    const message = textAt(said, 'message') ?? (text.trim() === '' ? `HTTP ${status}` : text)
    const word = reason === undefined ? `HTTP ${status}` : reason
    return {
      ...failed(
        reason === 'NotFound' ? 'not-found' : 'command',
        `${what}: error from server (${word}): ${redact(message)}`,
      ),
      status: reason,
    }
  } catch (error) {
    if (signal?.aborted) return failed('cancelled', `${what}: cancelled`)
    if (error instanceof AnswerError) return failed('unreadable', `${what}: ${error.message}`)
    if (error instanceof DeadlineError)
      return failed('timed-out', `${what}: no answer within ${asked.deadlineMs / 1_000} s`)
    return failed('command', `${what}: ${redact(reasonOf(error))}`)
  }
}

class AnswerError extends Error {
  override readonly name = 'AnswerError'
}

interface Answer {
  readonly status: number
  readonly text: string
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
          resolve({ status: answer.statusCode ?? 0, text: Buffer.concat(pieces).toString('utf8') }),
        )
      },
    )
    sent.once('error', reject)
    sent.end(body)
  })
}
