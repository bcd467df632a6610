import { expect, it } from 'vitest'
import { whyNoConnection } from './why-no-connection.ts'

const wrapped = (cause: string, note = '') =>
  `No connection established. Last error: ${cause}. Resolution note: ${note}`

it('tells the cause alone, and the same each time', () => {
  const refused = 'Error: connect ECONNREFUSED 127.0.0.1:7444'
  for (const time of ['', ' (2026-11-30T13:08:57.574Z)', ' (2026-11-30T13:09:00.845Z)']) {
    expect(whyNoConnection(wrapped(`${refused}${time}`))).toBe('connect ECONNREFUSED 127.0.0.1:7444')
  }
  const tls =
    '800C2D011A7F0000:error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:../ssl/rec_layer_s3.c:1601:SSL alert number 116\n'
  expect(whyNoConnection(wrapped(`${tls} (2026-11-30T13:08:57.574Z)`))).toBe(
    'TLS: tlsv13 alert certificate required',
  )
  expect(whyNoConnection(wrapped(refused, 'no such name'))).toBe(
    'connect ECONNREFUSED 127.0.0.1:7444 (no such name)',
  )
})

it('leaves what is not wrapped as it is', () => {
  for (const text of ['', 'the coordinator stops', 'Connection dropped'])
    expect(whyNoConnection(text)).toBe(text)
})
