import { reasonOf } from '../../../shared/errors.ts'
import { withDeadline } from '../../../shared/lifecycle.ts'
import { askOnce } from '../ask-once.ts'
import { redact } from '../redact.ts'
import { DONE, failed, type Result } from '../result.ts'

/** What this server's own k3s is asked for: to put the datastore under another token. */
export interface PutTokenRequest {
  /** Of the supervisor: https://127.0.0.1:6443. */
  readonly url: string
  /** PEM. */
  readonly ca: Buffer
  /** Of a server, as k3s takes it now. */
  readonly password: string
  readonly next: string
  readonly signal?: AbortSignal | undefined
}

/**
 * Passwords go in what TLS encrypts, never in an argument. "timed-out": there was no answer, so that it may be done yet; any other
 * failure is k3s' own word, after which nothing more is done.
 */
export type PutToken = (request: PutTokenRequest) => Promise<Result<void>>

/** k3s encrypts the cluster's keys anew, which takes a moment, and waits for its datastore. */
export const PUT_MS = 30_000
const MAX_ANSWER_BYTES = 64 * 1024

export const putToken: PutToken = async ({ url, ca, password, next, signal }) => {
  const body = JSON.stringify({ newToken: next })
  const what = 'PUT /v1-k3s/token'
  try {
    const { status, text } = await withDeadline(
      PUT_MS,
      signal,
      async stop =>
        await askOnce(
          `${url}/v1-k3s/token`,
          { ca },
          {
            method: 'PUT',
            headers: {
              authorization: `Basic ${Buffer.from(`server:${password}`).toString('base64')}`,
              'content-type': 'application/json',
              'content-length': Buffer.byteLength(body),
            },
            body,
            maxAnswerBytes: MAX_ANSWER_BYTES,
            signal: stop,
          },
        ),
    )
    if (status >= 200 && status < 300) return DONE
    if (status === 401) return failed('token-refused', `${what}: k3s does not take this server's token`)
    return failed('command', `${what}: HTTP ${status}: ${redact(text.replaceAll(next, '[token]'))}`)
  } catch (error) {
    if (signal?.aborted) return failed('cancelled', `${what}: cancelled`)
    return failed('timed-out', `${what}: ${redact(reasonOf(error))}`)
  }
}
