import type { IncomingHttpHeaders } from 'node:http'
import { request } from 'node:https'

/** Whom a server of a cluster is believed to be; PEM. */
export interface ServerTls {
  readonly ca: Buffer
}

/** The same, and who asks it. */
export interface MutualTls extends ServerTls {
  readonly cert: Buffer
  readonly key: Buffer
}

export interface OneRequest {
  /** Absent: GET. */
  readonly method?: string | undefined
  /** With its query; absent: that of the URL. */
  readonly path?: string | undefined
  readonly headers?: Readonly<Record<string, string | number>> | undefined
  readonly body?: string | undefined
  readonly maxAnswerBytes: number
  readonly signal: AbortSignal
}

export interface OneAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
}

/** More was answered than is taken. */
export class AnswerTooLong extends Error {
  override readonly name = 'AnswerTooLong'
}

/**
 * One request over TLS, mutual where there is a certificate to show, on a connection of its own: certificates may be others the next time, and what is asked after a restart must
 * not go to what was there before it. An answer that is cut off is an error.
 */
export function askOnce(
  url: string | URL,
  tls: ServerTls | MutualTls,
  { body, maxAnswerBytes, path, ...options }: OneRequest,
): Promise<OneAnswer> {
  return new Promise((resolve, reject) => {
    const asked = request(
      url,
      { ...only(tls), agent: false, ...options, ...(path !== undefined && { path }) },
      answer => {
        const pieces: Buffer[] = []
        let bytes = 0
        answer.on('data', (piece: Buffer) => {
          bytes += piece.length
          if (bytes <= maxAnswerBytes) pieces.push(piece)
          else asked.destroy(new AnswerTooLong(`answered with more than ${maxAnswerBytes} bytes`))
        })
        answer.once('error', reject)
        answer.once('end', () => {
          const { statusCode: status = 0, headers } = answer
          resolve({ status, headers, text: Buffer.concat(pieces).toString('utf8') })
        })
      },
    )
    asked.once('error', reject)
    asked.end(body)
  })
}

/** Nothing else that a caller's object may hold is an option of the connection. */
const only = (tls: ServerTls | MutualTls): ServerTls | MutualTls =>
  'cert' in tls ? { ca: tls.ca, cert: tls.cert, key: tls.key } : { ca: tls.ca }
