import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Authority } from '../../../shared/x509/authority.ts'
import { putToken } from './put-token.ts'
import { MadeUpSupervisor, makeForeignAuthority } from './testing/made-up-supervisor.ts'

const NEXT = '6'.repeat(64)

let made: MadeUpSupervisor
let foreign: Authority

beforeAll(async () => {
  ;[made, foreign] = await Promise.all([MadeUpSupervisor.start(), makeForeignAuthority()])
})
afterAll(async () => await made[Symbol.asyncDispose]())

const put = (ca: Authority = made.authority) =>
  putToken({ url: made.url, ca: Buffer.from(ca.certificatePem), password: 'old', next: NEXT })

describe('asking k3s for another token', () => {
  it('says who asks as a server does, and the new one in the body', async () => {
    made.answer = response => void response.end()
    expect(await put()).toMatchObject({ kind: 'done' })
    expect(made.last).toEqual({
      line: 'PUT /v1-k3s/token',
      authorization: `Basic ${Buffer.from('server:old').toString('base64')}`,
      body: JSON.stringify({ newToken: NEXT }),
    })
  })

  it.each([
    [401, 'token-refused'],
    [500, 'command'],
  ])('is over with %i, and shows no token', async (status, kind) => {
    made.answer = response => void response.writeHead(status).end(`{"newToken":"${NEXT}"} was not stored`)
    const ended = await put()
    expect(ended).toMatchObject({ class: kind })
    expect(JSON.stringify(ended)).not.toContain(NEXT)
  })

  it('may be done yet where the answer does not come', async () => {
    made.answer = response => void response.destroy()
    expect(await put()).toMatchObject({ class: 'timed-out' })
  })

  it('tells nobody who is not of the cluster', async () => {
    made.last = undefined
    made.answer = response => void response.end()
    expect(await put(foreign)).toMatchObject({ class: 'timed-out' })
    expect(made.last).toBeUndefined()
  })
})
