import { execFileSync } from 'node:child_process'
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { gitState } from './git.ts'
import { packTree } from './pack-tree.ts'
import { writeIn } from './testing/sample-tree.ts'

const base = await mkdtemp(join(tmpdir(), 'muster-tree-'))
afterAll(() => rm(base, { recursive: true }))
let count = 0
let dir: string
beforeEach(async () => {
  dir = join(base, String(count++))
  await mkdir(dir)
})
const write = (path: string, content: string | Buffer, mode?: number) => writeIn(dir, path, content, mode)
const git = (...args: string[]) =>
  execFileSync('git', ['-C', dir, '-c', 'user.name=t', '-c', 'user.email=t@t', ...args], { stdio: 'pipe' })

describe('a git repository', () => {
  beforeEach(async () => {
    git('init', '-q')
    await write('.gitignore', 'ignored\n')
    await write('fleet.toml', 'x')
    await write('gone', 'x')
    git('add', '-A')
    git('commit', '-qm', 'first')
  })

  it('gives tracked and new files without ignored and deleted ones', async () => {
    await write('ignored', 'x')
    await write('new file', 'x')
    await rm(join(dir, 'gone'))
    expect(await packTree(dir)).toMatchObject({ entries: 3, notes: [] })
  })

  it('is clean, or says what differs', async () => {
    const commit = git('rev-parse', 'HEAD').toString().trim()
    await write('ignored', 'x')
    expect(await gitState(dir)).toEqual({ kind: 'clean', commit })
    await write('new file', 'x')
    await write('fleet.toml', 'y')
    await rm(join(dir, 'gone'))
    expect(await gitState(dir)).toEqual({
      kind: 'dirty',
      commit,
      dirtyFiles: ['fleet.toml', 'gone', 'new file'],
      convertedFiles: [],
    })
  })

  it('above the fleet directory counts too, with what lies in the directory only', async () => {
    const root = dir
    await write('fleet/flake.nix', '{ }')
    git('add', '-A')
    git('commit', '-qm', 'second')
    await write('outside', 'x')
    expect(await gitState(join(root, 'fleet'))).toMatchObject({ kind: 'clean' })
    await write('fleet/new', 'x')
    expect(await gitState(join(root, 'fleet'))).toMatchObject({ kind: 'dirty', dirtyFiles: ['new'] })
    expect(await packTree(join(root, 'fleet'))).toMatchObject({ entries: 2 })
  })

  it('is dirty where what lies there is not what was committed, though git calls it unchanged', async () => {
    await write('script', 'x\n', 0o755)
    await symlink('fleet.toml', join(dir, 'link'))
    git('add', '-A')
    git('commit', '-qm', 'second')
    const commit = git('rev-parse', 'HEAD').toString().trim()
    expect(await gitState(dir)).toEqual({ kind: 'clean', commit })
    const origin = dir
    const cloneWith = async (...settings: string[]) => {
      dir = join(base, String(count++))
      execFileSync('git', ['clone', '-q', ...settings.flatMap(one => ['-c', one]), origin, dir])
    }
    const dirty = async (...files: string[]) => {
      expect(git('status', '--porcelain').toString()).toBe('')
      expect(await gitState(dir)).toEqual({
        kind: 'dirty',
        commit,
        dirtyFiles: files,
        convertedFiles: files,
      })
    }
    await cloneWith()
    expect(await gitState(dir)).toEqual({ kind: 'clean', commit })
    await cloneWith('core.autocrlf=true')
    await dirty('.gitignore', 'script')
    await cloneWith('core.fileMode=false')
    await chmod(join(dir, 'script'), 0o644)
    await dirty('script')
    await cloneWith('core.symlinks=false')
    await dirty('link')
    await cloneWith()
    git('update-index', '--skip-worktree', 'fleet.toml', 'gone')
    await write('fleet.toml', 'other')
    await rm(join(dir, 'gone'))
    await dirty('fleet.toml', 'gone')
    await cloneWith()
    git('config', 'filter.vault.clean', 'tr y x')
    git('config', 'filter.vault.smudge', 'tr x y')
    await write('.git/info/attributes', 'gone filter=vault\n')
    await rm(join(dir, 'gone'))
    git('checkout', '-q', '--', 'gone')
    await dirty('gone')
  })

  it('before its first commit is dirty without a commit, and no repository is none', async () => {
    dir = join(base, String(count++))
    await write('x', 'x')
    expect(await gitState(dir)).toEqual({ kind: 'none' })
    git('init', '-q')
    expect(await gitState(dir)).toEqual({
      kind: 'dirty',
      commit: undefined,
      dirtyFiles: ['x'],
      convertedFiles: [],
    })
  })

  it('with a submodule or a repository inside is refused, naming it', async () => {
    const commit = git('rev-parse', 'HEAD').toString().trim()
    git('update-index', '--add', '--cacheinfo', `160000,${commit},vendor/sub`)
    expect(await packTree(dir)).toMatchObject({
      kind: 'refused',
      reason: expect.stringContaining('vendor/sub'),
    })
    git('update-index', '--force-remove', 'vendor/sub')
    await write('inner/file', 'x')
    execFileSync('git', ['-C', join(dir, 'inner'), 'init', '-q'])
    git('status')
    expect(await packTree(dir)).toMatchObject({ kind: 'refused', reason: expect.stringContaining('inner') })
  })

  it('is an error that names the cure when the program git is missing', async () => {
    const path = join(base, 'bin-without-git')
    await mkdir(path)
    await symlink('/usr/bin/env', join(path, 'env'))
    vi.stubEnv('PATH', path)
    try {
      const result = await packTree(dir)
      expect(result).toMatchObject({ kind: 'refused', reason: expect.stringContaining('install git') })
      dir = join(base, String(count++))
      await write('x', 'x')
      expect(await packTree(dir)).toMatchObject({ kind: 'packed' })
      await write('.gitignore', 'secret')
      expect(await packTree(dir)).toMatchObject({
        kind: 'refused',
        reason: expect.stringContaining('install git'),
      })
    } finally {
      vi.unstubAllEnvs()
    }
  })

  it('that git cannot read is an error and not the absence of a repository', async () => {
    await writeFile(join(dir, '.git/config'), '[broken')
    expect(await packTree(dir)).toMatchObject({ kind: 'refused', reason: expect.stringContaining('git') })
  })
})
