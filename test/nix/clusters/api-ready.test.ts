import { execFile, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sha256Hex } from '../../../shared/ids.ts'
import { type Authority, createAuthority, openAuthority } from '../../../shared/x509/authority.ts'
import { issueCertificate } from '../../../shared/x509/issue-certificate.ts'
import { generateMachineKey } from '../../../shared/x509/machine-key.ts'

const SCRIPT = join(import.meta.dirname, '../../../nix/modules/clusters/scripts/api-ready.sh')
const DATES = { notBefore: new Date(Date.now() - 86_400_000), notAfter: new Date(Date.now() + 86_400_000) }
const hasCurl = spawnSync('curl', ['--version']).status === 0

/** Answers as an API server does that lets nobody ask without a name. */
interface Answers {
  readonly known: number
  readonly unknown: number
}

describe.skipIf(!hasCurl)(`api-ready.sh ${hasCurl ? '' : 'skipped: curl is missing'}`, () => {
  const folder = mkdtempSync(join(tmpdir(), 'muster-api-ready-'))
  const mine = join(folder, 'mine')
  let server: Server
  let answers: Answers
  const asked: string[] = []

  beforeAll(async () => {
    const authority = openAuthority(await createAuthority({ ...DATES, bits: 2048 }))
    const [serving, client] = await Promise.all([issue(authority, 'server'), issue(authority, 'operator')])
    writeFileSync(`${mine}.crt`, client.cert)
    writeFileSync(`${mine}.key`, client.key)
    const options = { ...serving, ca: authority.certificatePem, requestCert: true, rejectUnauthorized: false }
    server = createServer(options, ({ url = '', socket }, response) => {
      asked.push(url)
      const isKnown = 'authorized' in socket && socket.authorized === true
      response.writeHead(isKnown ? answers.known : answers.unknown).end('{}')
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
  })
  afterAll(() => {
    server.close()
    rmSync(folder, { recursive: true })
  })

  async function isReady(given: Answers, pair = mine): Promise<boolean> {
    answers = given
    const { port } = server.address() as AddressInfo
    const run = promisify(execFile)('bash', [SCRIPT, 'curl', String(port), `${pair}.crt`, `${pair}.key`])
    return await run.then(
      () => true,
      () => false,
    )
  }

  it('asks for readiness by name of k3s and k0s, which tell it to nobody else', async () => {
    expect(await isReady({ known: 200, unknown: 401 })).toBe(true)
    expect(await isReady({ known: 500, unknown: 401 })).toBe(false)
    expect(asked.at(-1)).toBe('/readyz')
  })

  it('takes a server for one that serves that asks who is asking, where no certificate is at hand', async () => {
    const none = join(folder, 'none')
    expect(await isReady({ known: 200, unknown: 401 }, none)).toBe(true)
    expect(await isReady({ known: 200, unknown: 200 }, none)).toBe(true)
    for (const unknown of [403, 404, 500, 503])
      expect(await isReady({ known: 200, unknown }, none)).toBe(false)
  })

  it('is told that nobody listens', () => {
    const { status, stderr } = spawnSync('bash', [SCRIPT, 'curl', '1', `${mine}.crt`, `${mine}.key`], {
      encoding: 'utf8',
    })
    expect(status).toBe(1)
    expect(stderr).toBe('the API server at https://127.0.0.1:1/readyz is not ready: 000\n')
  })
})

async function issue(authority: Authority, kind: 'server' | 'operator') {
  const { publicKeyDer, privateKeyPem } = await generateMachineKey(2048)
  const { certificatePem } = issueCertificate({
    authority,
    subject: { kind, id: sha256Hex(publicKeyDer) },
    publicKeyDer,
    ...DATES,
    ...(kind === 'server' ? { sans: [{ kind: 'ip', value: '127.0.0.1' }] } : {}),
  })
  return { cert: certificatePem, key: privateKeyPem }
}
