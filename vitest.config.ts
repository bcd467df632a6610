import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['{shared,coordinator,agent,cli,scripts}/**/*.test.ts', 'test/**/*.test.ts'],
    exclude: ['**/node_modules/**', 'dist/**', '.cache/**'],
    globalSetup: ['test/support/build-programs.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    maxWorkers: 2,
  },
})
