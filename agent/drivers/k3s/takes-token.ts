import { reasonOf } from '../../../shared/errors.ts'
import { withDeadline } from '../../../shared/lifecycle.ts'
import { askOnce } from '../ask-once.ts'
import { redact } from '../redact.ts'
import { done, failed, type Result } from '../result.ts'

export interface TakesTokenRequest {
  /** Of the supervisor: https://127.0.0.1:6443. */
  readonly url: string
  /** PEM. */
  readonly ca: Buffer
  /** Of a server. */
  readonly password: string
  readonly signal?: AbortSignal | undefined
}

/** Whether a server's own k3s lets in who shows this password. No file says it: k3s reads its passwords once, when it starts. */
export type TakesToken = (request: TakesTokenRequest) => Promise<Result<boolean>>

const ASK_MS = 10_000
const MAX_ANSWER_BYTES = 64 * 1024
const WHERE = '/v1-k3s/readyz'

export const takesToken: TakesToken = async ({ url, ca, password, signal }) => {
  const what = `GET ${WHERE}`
  try {
    const { status } = await withDeadline(
      ASK_MS,
      signal,
      async stop =>
        await askOnce(
          `${url}${WHERE}`,
          { ca },
          {
            headers: { authorization: `Basic ${Buffer.from(`server:${password}`).toString('base64')}` },
            maxAnswerBytes: MAX_ANSWER_BYTES,
            signal: stop,
          },
        ),
    )
    if (status === 401) return done(false)
    // Who is known is told no more than that this is for agents.
    if (status === 200 || status === 403) return done(true)
    return failed('command', `${what}: HTTP ${status}`)
  } catch (error) {
    if (signal?.aborted) return failed('cancelled', `${what}: cancelled`)
    return failed('timed-out', `${what}: ${redact(reasonOf(error))}`)
  }
}
