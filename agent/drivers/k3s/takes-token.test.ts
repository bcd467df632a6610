import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Authority } from '../../../shared/x509/authority.ts'
import { takesToken } from './takes-token.ts'
import { MadeUpSupervisor, makeForeignAuthority } from './testing/made-up-supervisor.ts'

let made: MadeUpSupervisor
let foreign: Authority

beforeAll(async () => {
  ;[made, foreign] = await Promise.all([MadeUpSupervisor.start(), makeForeignAuthority()])
})
afterAll(async () => await made[Symbol.asyncDispose]())

const ask = (ca: Authority = made.authority) =>
  takesToken({ url: made.url, ca: Buffer.from(ca.certificatePem), password: 'pw' })

describe('asking k3s whether it lets in who shows a token', () => {
  it.each([
    [200, true],
    // It is for agents: who is told so was known.
    [403, true],
    [401, false],
  ])('takes %i for its word', async (status, taken) => {
    made.answer = response => void response.writeHead(status).end()
    expect(await ask()).toEqual({ kind: 'done', value: taken })
    expect(made.last).toEqual({
      line: 'GET /v1-k3s/readyz',
      authorization: `Basic ${Buffer.from('server:pw').toString('base64')}`,
      body: '',
    })
  })

  it('knows nothing of a k3s that says something else, or nothing', async () => {
    made.answer = response => void response.writeHead(503).end()
    expect(await ask()).toMatchObject({ class: 'command' })
    made.answer = response => void response.destroy()
    expect(await ask()).toMatchObject({ class: 'timed-out' })
  })

  it('shows it to nobody who is not of the cluster', async () => {
    made.last = undefined
    made.answer = response => void response.end()
    expect(await ask(foreign)).toMatchObject({ class: 'timed-out' })
    expect(made.last).toBeUndefined()
  })
})
