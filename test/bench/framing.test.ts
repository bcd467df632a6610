import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FrameReader, frame } from './framing.ts'

describe('the framing of the emulated agents', () => {
  it('writes what gRPC reads: no compression, length, bytes', () => {
    expect([...frame(Buffer.from('abc'))]).toEqual([0, 0, 0, 0, 3, 97, 98, 99])
    expect([...frame(new Uint8Array(0))]).toEqual([0, 0, 0, 0, 0])
  })

  it('gives back every message, whole and in order, however the stream cuts them', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 12 }),
        fc.infiniteStream(fc.integer({ min: 1, max: 30 })),
        (messages, cuts) => {
          const stream = Buffer.concat(messages.map(frame))
          const reader = new FrameReader()
          const read: Buffer[] = []
          for (let at = 0; at < stream.length; ) {
            const length = cuts.next().value
            // A copy, as a socket delivers: the reader must not rely on pieces lying side by side.
            read.push(...reader.push(Buffer.from(stream.subarray(at, at + length))))
            at += length
          }
          expect(read.map(message => [...message])).toEqual(messages.map(message => [...message]))
        },
      ),
    )
  })

  it('holds back a message that is not whole', () => {
    const reader = new FrameReader()
    expect(reader.push(frame(Buffer.from('abc')).subarray(0, 7))).toEqual([])
    expect(reader.push(Buffer.from('c'))).toEqual([Buffer.from('abc')])
  })
})
