import { spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { sourceSeconds } from './source-time.mjs'

const AT = 1_700_000_000
const NOW_MS = (AT + 1_000_000) * 1_000

async function temporaryFolder() {
  const path = await mkdtemp(join(tmpdir(), 'muster-source-time-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) }
}

/** A commit of one file at a time. */
async function commit(folder: string, file: string, seconds: number): Promise<void> {
  await writeFile(join(folder, file), `${seconds}\n`)
  const at = `${seconds} +0000`
  const env = { ...process.env, GIT_AUTHOR_DATE: at, GIT_COMMITTER_DATE: at, GIT_CONFIG_GLOBAL: '/dev/null' }
  const who = ['-c', 'user.name=t', '-c', 'user.email=t@example.org']
  for (const args of [
    ['init', '-q'],
    ['add', file],
    [...who, 'commit', '-q', '-m', file],
  ]) {
    const { status, stderr } = spawnSync('git', ['-C', folder, ...args], { env, encoding: 'utf8' })
    expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' })
  }
}

describe('the time of the sources', () => {
  it('is what SOURCE_DATE_EPOCH says', async () => {
    await using folder = await temporaryFolder()
    await commit(folder.path, 'a.ts', AT + 5)
    expect(sourceSeconds(folder.path, ['a.ts'], { SOURCE_DATE_EPOCH: String(AT) }, NOW_MS)).toBe(AT)
  })

  it('is the newest commit that touched them, and no other', async () => {
    await using folder = await temporaryFolder()
    await commit(folder.path, 'a.ts', AT)
    await commit(folder.path, 'b.md', AT + 100)
    expect(sourceSeconds(folder.path, ['a.ts'], {}, NOW_MS)).toBe(AT)
    expect(sourceSeconds(folder.path, ['a.ts', 'b.md'], { SOURCE_DATE_EPOCH: '' }, NOW_MS)).toBe(AT + 100)
  })

  it('is not known without either, nor by a commit from the future', async () => {
    await using folder = await temporaryFolder()
    expect(sourceSeconds(folder.path, ['a.ts'], {}, NOW_MS)).toBeUndefined()
    await commit(folder.path, 'a.ts', AT)
    expect(sourceSeconds(folder.path, ['a.ts'], {}, (AT - 1) * 1_000)).toBeUndefined()
    expect(sourceSeconds(folder.path, ['none.ts'], {}, NOW_MS)).toBeUndefined()
  })

  it.each(['yesterday', '-1', '1.5', String(NOW_MS / 1_000 + 1)])('is not %s', given => {
    expect(() => sourceSeconds('/', [], { SOURCE_DATE_EPOCH: given }, NOW_MS)).toThrow('SOURCE_DATE_EPOCH')
  })
})
