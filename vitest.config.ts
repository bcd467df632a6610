import { defineConfig } from 'vitest/config'
import { LongestFirst } from './test/support/longest-first.ts'

export default defineConfig({
  test: {
    include: ['{shared,coordinator,agent,cli,scripts}/**/*.test.ts', 'test/**/*.test.ts'],
    exclude: ['**/node_modules/**', 'dist/**', '.cache/**'],
    globalSetup: ['test/support/build-programs.ts'],
    // A wait that is too short on a busy machine says nothing about the code.
    expect: { poll: { timeout: 10_000 } },
    // Where machines are slow and shared a test gets a second try; what fails twice fails. The report names retried ones.
    retry: process.env.CI === 'true' ? 1 : 0,
    testTimeout: 180_000,
    hookTimeout: 120_000,
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
  },
})
