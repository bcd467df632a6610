import { execFile } from 'node:child_process'
import { lstat, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { hasCode } from '../errors.ts'
import { escapeText } from '../escape.ts'
import { GitMissing, TreeRefusal } from './tree-refusal.ts'
import { filesUnlikeCommit, readTreeLine } from './unlike-commit.ts'

const GIT_TIMEOUT_MS = 60_000
const GIT_OUTPUT_BYTES = 64 * 1024 * 1024

/** What a hook or an alias may have set, and what would make git look at another repository than the folder's own. */
const FOREIGN_VARIABLES = [
  'GIT_DIR',
  'GIT_WORK_TREE',
  'GIT_INDEX_FILE',
  'GIT_PREFIX',
  'GIT_LITERAL_PATHSPECS',
]

export type GitState =
  | { readonly kind: 'none' }
  | { readonly kind: 'clean'; readonly commit: string }
  | {
      readonly kind: 'dirty'
      /** Undefined before the first commit. */
      readonly commit: string | undefined
      /** Paths below the folder that differ from the commit. */
      readonly dirtyFiles: readonly string[]
      /** Those of them that git itself calls unchanged. */
      readonly convertedFiles: readonly string[]
    }

/** Whether a folder's content is exactly that of a commit. Looks at this folder only, not at the rest of a repository. */
export async function gitState(dir: string): Promise<GitState> {
  if (!(await isInRepository(dir))) return { kind: 'none' }
  const head = await runGit(dir, ['rev-parse', '--verify', '--quiet', 'HEAD^{commit}'])
  const commit = head.code === 0 ? head.stdout.toString().trim() : undefined
  const changed = new Set(await listDirty(dir))
  const unlike = commit === undefined ? [] : await listUnlike(dir, commit)
  const convertedFiles = unlike.filter(path => !changed.has(path))
  const dirtyFiles = [...changed, ...convertedFiles].sort()
  return commit === undefined || dirtyFiles.length > 0
    ? { kind: 'dirty', commit, dirtyFiles, convertedFiles }
    : { kind: 'clean', commit }
}

async function listUnlike(dir: string, commit: string): Promise<string[]> {
  const tree = splitNul(await mustRunGit(dir, ['ls-tree', '-r', '-z', commit]))
  return await filesUnlikeCommit(
    dir,
    tree.flatMap(line => readTreeLine(line.toString()) ?? []),
  )
}

/** The files of a folder as git has them: tracked ones and new ones that are not ignored; undefined outside a repository. */
export async function listGitFiles(dir: string): Promise<Buffer[] | undefined> {
  if (!(await isInRepository(dir))) return undefined
  const staged = splitNul(await mustRunGit(dir, ['ls-files', '--stage', '-z']))
  const submodule = staged.find(line => line.subarray(0, 7).toString() === '160000 ')
  if (submodule) {
    const name = submodule.subarray(submodule.indexOf('\t') + 1).toString()
    throw new TreeRefusal(`${escapeText(name)}: a git submodule; make it a flake input or copy its files in`)
  }
  return splitNul(await mustRunGit(dir, ['ls-files', '--cached', '--others', '--exclude-standard', '-z']))
}

/**
 * The files of a folder outside any repository that no .gitignore names, by git's own rules; undefined where there is no
 * git. An empty repository elsewhere lends git the place it needs, so that nothing is written into the folder.
 */
export async function listUnignoredFiles(dir: string): Promise<Buffer[] | undefined> {
  const scratch = await mkdtemp(join(tmpdir(), 'muster-git-'))
  try {
    const made = await runGit(dir, ['init', '--quiet', '--bare', scratch])
    if (made.code === 127) return undefined
    if (made.code !== 0) throw new TreeRefusal(`${dir}: git init failed: ${made.stderr.trim()}`)
    const place = [`--git-dir=${scratch}`, `--work-tree=${resolve(dir)}`]
    const listed = await runGit(dir, [...place, 'ls-files', '--others', '--exclude-standard', '-z'])
    if (listed.code !== 0) throw new TreeRefusal(`${dir}: git ls-files failed: ${listed.stderr.trim()}`)
    return splitNul(listed.stdout)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/** A repository that git cannot read is an error and not the absence of one. */
async function isInRepository(dir: string): Promise<boolean> {
  const result = await runGit(dir, ['rev-parse', '--is-inside-work-tree'])
  if (result.code === 0) {
    if (result.stdout.toString().trim() === 'true') return true
    throw new TreeRefusal(`${dir}: lies inside git's own folder, not in a work tree`)
  }
  if (result.stderr.includes('not a git repository')) return false
  const marker = await findMarker(dir)
  if (!marker) return false
  if (result.code === 127) {
    throw new GitMissing(
      `${marker}: is there, but the program git is not; install git, so that .gitignore is respected`,
    )
  }
  throw new TreeRefusal(`${dir}: git cannot read its repository: ${result.stderr.trim()}`)
}

async function findMarker(dir: string): Promise<string | undefined> {
  for (let at = resolve(dir); ; at = dirname(at)) {
    const marker = join(at, '.git')
    try {
      await lstat(marker)
      return marker
    } catch (error) {
      if (!hasCode(error, 'ENOENT') && !hasCode(error, 'ENOTDIR')) throw error
    }
    if (dirname(at) === at) return undefined
  }
}

async function listDirty(dir: string): Promise<string[]> {
  const prefix = (await mustRunGit(dir, ['rev-parse', '--show-prefix'])).toString().replace(/\n$/, '')
  const status = await mustRunGit(dir, [
    'status',
    '--porcelain=v1',
    '-z',
    '--untracked-files=all',
    '--no-renames',
    '--',
    '.',
  ])
  return splitNul(status)
    .map(line => line.subarray(3).toString())
    .map(path => (path.startsWith(prefix) ? path.slice(prefix.length) : path))
    .sort()
}

async function mustRunGit(dir: string, args: readonly string[]): Promise<Buffer> {
  const { code, stdout, stderr } = await runGit(dir, args)
  if (code === 0) return stdout
  throw new TreeRefusal(`${dir}: git ${args[0]} failed: ${stderr.trim() || `exit code ${code}`}`)
}

interface GitResult {
  readonly code: number
  readonly stdout: Buffer
  readonly stderr: string
}

function runGit(dir: string, args: readonly string[]): Promise<GitResult> {
  // Through env(1), because the process environment is nothing this code may read or change.
  const environment = [...FOREIGN_VARIABLES.flatMap(name => ['-u', name]), 'LC_ALL=C', 'GIT_OPTIONAL_LOCKS=0']
  const command = [...environment, 'git', '-C', dir, '-c', 'core.fsmonitor=false', ...args]
  const options = { encoding: 'buffer', timeout: GIT_TIMEOUT_MS, maxBuffer: GIT_OUTPUT_BYTES } as const
  return new Promise((done, fail) => {
    execFile('env', command, options, (error, stdout, stderr) => {
      if (!error) return done({ code: 0, stdout, stderr: stderr.toString() })
      if (typeof error.code === 'number') return done({ code: error.code, stdout, stderr: stderr.toString() })
      fail(new Error(`git ${args[0]} could not be run in ${dir}`, { cause: error }))
    })
  })
}

function splitNul(output: Buffer): Buffer[] {
  const parts: Buffer[] = []
  for (let at = 0; at < output.length; ) {
    const end = output.indexOf(0, at)
    const stop = end === -1 ? output.length : end
    parts.push(output.subarray(at, stop))
    at = stop + 1
  }
  return parts
}
