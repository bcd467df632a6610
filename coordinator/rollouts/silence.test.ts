import { describe, expect, it } from 'vitest'
import { SILENT_FOR_MS, SilenceWatch } from './silence.ts'

const NOW = 1_800_000_000_000
const NOBODY: ReadonlySet<string> = new Set()
const everybody = () => true

describe('who fell silent', () => {
  it('is who was heard of a short time ago and is not now, other than for what we do to it', () => {
    const watch = new SilenceWatch()
    watch.look(['a', 'b', 'c'], NOBODY, 30, NOW, everybody)
    expect(watch.look(['a'], new Set(['b']), 30, NOW + 1, everybody)).toEqual({
      known: 2,
      silent: 1,
      percent: 30,
    })
    expect(watch.look(['a'], NOBODY, 30, NOW + SILENT_FOR_MS + 1, everybody).silent).toBe(0)
  })

  it('is nobody who was sent away, so that one farewell does not keep the next one waiting', () => {
    const watch = new SilenceWatch()
    watch.look(['a', 'b', 'c'], NOBODY, 30, NOW, everybody)
    const member = (machine: string) => machine === 'a'
    expect(watch.look(['a'], NOBODY, 30, NOW + 1, member)).toEqual({ known: 1, silent: 0, percent: 30 })
  })
})
