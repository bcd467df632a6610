import fc from 'fast-check'
import { expect, test } from 'vitest'
import { BoundedOutput } from './bounded-output.ts'

test('keeps everything within the bound, and exactly the beginning and the end beyond it', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 })),
      fc.integer({ min: 1, max: 200 }),
      (chunks, maxBytes) => {
        const output = new BoundedOutput(maxBytes)
        for (const chunk of chunks) output.push(Buffer.from(chunk))
        const all = Buffer.concat(chunks)
        const head = maxBytes - Math.floor(maxBytes / 2)
        const expected =
          all.length <= maxBytes
            ? all
            : Buffer.concat([all.subarray(0, head), all.subarray(all.length - (maxBytes - head))])
        expect(output.bytes().equals(expected)).toBe(true)
        expect(output.truncated).toBe(all.length > maxBytes)
      },
    ),
  )
})
