import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { BoundedLog } from './bounded-log.ts'

test('a log never grows beyond its bound, also over restarts, and keeps what came before it once', () => {
  const folder = mkdtempSync(join(tmpdir(), 'muster-log-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'logs/a.log')
  const line = Buffer.from(`${'x'.repeat(1024 * 1024 - 1)}\n`)
  for (let start = 0; start < 4; start++) {
    const log = new BoundedLog(path)
    for (let index = 0; index < 6; index++) log.add(line)
  }
  expect(readdirSync(join(folder, 'logs')).sort()).toEqual(['a.log', 'a.log.1'])
  expect(statSync(path).size).toBeLessThanOrEqual(8 * 1024 * 1024)
})

test('remembers the last lines, also one that has no end yet', () => {
  const folder = mkdtempSync(join(tmpdir(), 'muster-log-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const log = new BoundedLog(join(folder, 'a.log'))
  log.add(Buffer.from('one\ntwo\nth'))
  log.add(Buffer.from('ree\nfour'))
  expect(log.lastLines).toEqual(['one', 'two', 'three', 'four'])
})
