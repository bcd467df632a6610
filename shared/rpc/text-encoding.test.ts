import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { useFastTextEncoding } from './text-encoding.ts'

const web = new TextEncoder()
const written = (text: string, writer: BinaryWriter) => writer.tag(1, 2).string(text).finish()

test('texts are written as the encoder of the web writes them, and read back', () => {
  useFastTextEncoding()
  const text = fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: 'grapheme', maxLength: 4_000 }))
  fc.assert(
    fc.property(text, value => {
      const bytes = written(value, new BinaryWriter())
      expect(bytes).toEqual(written(value, new BinaryWriter(each => web.encode(each))))
      const reader = new BinaryReader(bytes)
      reader.tag()
      expect(reader.string()).toBe(new TextDecoder().decode(web.encode(value)))
    }),
  )
  // Half of a pair has no bytes of its own.
  expect(written('a\ud800b', new BinaryWriter())).toEqual(
    written('a\ud800b', new BinaryWriter(each => web.encode(each))),
  )
})

test('what was written stays as it is when more is written', () => {
  useFastTextEncoding()
  const first = written('first', new BinaryWriter())
  for (let i = 0; i < 5_000; i++) written('x'.repeat(i % 100), new BinaryWriter())
  expect(first).toEqual(written('first', new BinaryWriter(each => web.encode(each))))
})
