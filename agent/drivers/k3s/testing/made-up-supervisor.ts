import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { sha256Hex } from '../../../../shared/ids.ts'
import { type Authority, createAuthority, openAuthority } from '../../../../shared/x509/authority.ts'
import { issueCertificate } from '../../../../shared/x509/issue-certificate.ts'
import { generateMachineKey } from '../../../../shared/x509/machine-key.ts'

const DATES = { notBefore: new Date(Date.now() - 86_400_000), notAfter: new Date(Date.now() + 86_400_000) }

export interface SeenRequest {
  readonly line: string
  readonly authorization: string
  readonly body: string
}

/** Listens where k3s would, with a certificate of an authority, and answers what a test says. */
export class MadeUpSupervisor implements AsyncDisposable {
  readonly authority: Authority
  readonly #server: Server
  last: SeenRequest | undefined
  answer: (response: ServerResponse) => void = response => void response.end()

  private constructor(authority: Authority, key: { readonly privateKeyPem: string }, certificatePem: string) {
    this.authority = authority
    this.#server = createServer(
      { key: key.privateKeyPem, cert: certificatePem },
      (request, response) => void this.#take(request, response),
    )
  }

  static async start(): Promise<MadeUpSupervisor> {
    const [authority, key] = await Promise.all([
      createAuthority({ ...DATES, bits: 2048 }).then(openAuthority),
      generateMachineKey(2048),
    ])
    const { certificatePem } = issueCertificate({
      authority,
      publicKeyDer: key.publicKeyDer,
      ...DATES,
      subject: { kind: 'server', id: sha256Hex(key.publicKeyDer) },
      sans: [{ kind: 'ip', value: '127.0.0.1' }],
    })
    const made = new MadeUpSupervisor(authority, key, certificatePem)
    made.#server.listen(0, '127.0.0.1')
    await once(made.#server, 'listening')
    return made
  }

  get url(): string {
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = []
    for await (const piece of request) pieces.push(piece)
    this.last = {
      line: `${request.method} ${request.url}`,
      authorization: request.headers.authorization ?? '',
      body: Buffer.concat(pieces).toString('utf8'),
    }
    this.answer(response)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }
}

/** Of no cluster here. */
export const makeForeignAuthority = async (): Promise<Authority> =>
  openAuthority(await createAuthority({ ...DATES, bits: 2048 }))
