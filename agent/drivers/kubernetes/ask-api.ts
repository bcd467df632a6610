import { reasonOf } from '../../../shared/errors.ts'
import { DeadlineError, pause, withDeadline } from '../../../shared/lifecycle.ts'
import { readObject, textAt } from '../../../shared/read-value.ts'
import { VERSION } from '../../../shared/version.ts'
import { AnswerTooLong, askOnce, type OneAnswer } from '../ask-once.ts'
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
 * Asks an API server, and again, within the time, where it says when (it begins, or has too much to do). The text of its answer; only 2xx
 * is one.
 */
export async function askApi(access: ApiAccess, asked: ApiRequest): Promise<KubeResult<string>> {
  const { method, path, signal } = asked
  const what = `${method} ${path.split('?')[0]?.slice(0, 120)}`
  if (signal?.aborted) return failed('cancelled', `${what}: cancelled`)
  let last: OneAnswer | undefined
  try {
    return await withDeadline(asked.deadlineMs, signal, async stop => {
      for (;;) {
        last = await send(access, asked, stop)
        if (last.status >= 200 && last.status < 300) return done(last.text)
        const again = askAgainIn(last)
        if (again === undefined || !MAY_REPEAT.has(method)) return refusal(what, last)
        if (!(await pause(again * 1_000, stop))) throw stop.reason
      }
    })
  } catch (error) {
    if (signal?.aborted) return failed('cancelled', `${what}: cancelled`)
    if (error instanceof AnswerTooLong) return failed('unreadable', `${what}: ${error.message}`)
    if (error instanceof DeadlineError) {
      // It was asked to wait until the time was over: what it said is worth more than that it was late.
      if (last) return refusal(what, last)
      return failed('timed-out', `${what}: no answer within ${asked.deadlineMs / 1_000} s`)
    }
    return failed('command', `${what}: ${redact(reasonOf(error))}`)
  }
}

/** What an answer that is none says. */
function refusal(what: string, { status: code, text }: OneAnswer): KubeResult<never> {
  const object = readObject(text)
  // Of a kind that it does not know at all, an API server says so in words.
  const status = textAt(object, 'reason') ?? (code === 404 && !object ? 'NotFound' : undefined)
  const said = redact(textAt(object, 'message') ?? (text.trim() === '' ? `HTTP ${code}` : text))
  const reason = `${what}: error from server (${status ?? `HTTP ${code}`}): ${said}`
  return { ...failed(status === 'NotFound' ? 'not-found' : 'command', reason), status, said }
}

function send(
  { url, ca, cert, key }: ApiAccess,
  { method, path, body, contentType, maxAnswerBytes }: ApiRequest,
  signal: AbortSignal,
): Promise<OneAnswer> {
  const headers = {
    accept: 'application/json, */*',
    'user-agent': `muster-agent/${VERSION}`,
    ...(body !== undefined && {
      'content-type': contentType ?? 'application/json',
      'content-length': Buffer.byteLength(body),
    }),
  }
  return askOnce(url, { ca, cert, key }, { method, path, body, headers, maxAnswerBytes, signal })
}

/** In so many seconds the server wants to be asked again; undefined: it says nothing of that. */
function askAgainIn({ status, headers }: OneAnswer): number | undefined {
  const busy = status === 429 || status >= 500
  const seconds = /^\d{1,4}$/.exec(headers['retry-after'] ?? '')?.[0]
  return busy && seconds !== undefined ? Math.max(1, Number(seconds)) : undefined
}
