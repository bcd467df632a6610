// Fails when shared/gen is not what buf makes of proto/ now.
import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { top } from './set-up.mjs'

const list = folder =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath ?? entry.path, entry.name).slice(folder.length + 1))
    .sort()

const scratch = mkdtempSync(join(tmpdir(), 'muster-gen-'))
try {
  cpSync(join(top, 'proto'), join(scratch, 'proto'), { recursive: true })
  cpSync(join(top, 'buf.yaml'), join(scratch, 'buf.yaml'))
  const template = readFileSync(join(top, 'buf.gen.yaml'), 'utf8').replace(
    'node_modules/',
    `${top}/node_modules/`,
  )
  const made = spawnSync(join(top, 'node_modules/.bin/buf'), ['generate', '--template', template], {
    cwd: scratch,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, HOME: scratch },
  })
  if (made.status !== 0) process.exitCode = 1
  else {
    const [fresh, kept] = [join(scratch, 'shared/gen'), join(top, 'shared/gen')]
    const names = new Set([...list(fresh), ...list(kept)])
    const read = path => {
      try {
        return readFileSync(path, 'utf8')
      } catch {
        return undefined
      }
    }
    const different = [...names].filter(name => read(join(fresh, name)) !== read(join(kept, name)))
    for (const name of different) console.error(`shared/gen/${name}: run \`npm run generate\``)
    if (different.length > 0) process.exitCode = 1
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
