import { describe, expect, it } from 'vitest'
import { bareVersion, isVersion } from './kubelet-version.ts'

describe('a version', () => {
  it.each([
    ['v1.34.3+k3s1', '1.34.3', true],
    ['v1.34.3+k0s', 'v1.34.3', true],
    ['v1.34.3-rc.1', '1.34.3', true],
    ['v1.34.30', '1.34.3', false],
    ['', '1.34.3', false],
  ])('%s is %s: %s', (said, wanted, same) => expect(isVersion(said, wanted)).toBe(same))

  it('is told without what stands around it', () => expect(bareVersion('v1.35.4+k0s.0')).toBe('1.35.4'))
})
