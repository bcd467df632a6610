import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { exitCodes } from './exit-codes.ts'
import { exitForStatus } from './explain-error.ts'
import { programForHelp, renderReference, walk } from './testing/reference.ts'

const docs = join(import.meta.dirname, '../docs')
const page = await readFile(join(docs, 'reference/cli.md'), 'utf8').catch(() => '')

/** What the page documents of each command, read from its text alone. */
function documented(): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>()
  for (const part of page.split(/^### `/m).slice(1)) {
    const path = /^(muster(?: [a-z]+)+)/.exec(part)?.[1]
    if (path === undefined) continue
    const flags = [...part.matchAll(/^\| `([^`]+)` \|/gm)].flatMap(
      ([, text]) => text?.match(/--?[a-z][a-z-]*/g) ?? [],
    )
    found.set(path, new Set(flags))
  }
  return found
}

describe('docs/reference/cli.md', () => {
  it('is what the command says of itself', async () => {
    await expect(renderReference()).toMatchFileSnapshot(join(docs, 'reference/cli.md'))
  })

  it('every command writes for programs, but those whose output is another thing', () => {
    const without = walk(programForHelp())
      .filter(({ command }) => !command.options.some(({ long }) => long === '--output'))
      .map(({ path }) => path)
    // JSON always; lines of a build; a file for `verify`; a kubeconfig; a script; help.
    expect(without).toEqual([
      'muster audit show',
      'muster logs',
      'muster evidence',
      'muster cluster kubeconfig',
      'muster completion',
      'muster help',
    ])
  })

  it('documents exactly the commands that exist', () => {
    expect([...documented().keys()]).toEqual(walk(programForHelp()).map(({ path }) => path))
  })

  it('documents exactly the options that --help of each command lists', async () => {
    for (const [path, flags] of documented()) {
      let help = ''
      const program = programForHelp(text => {
        help += text
      })
      await expect(
        program.parseAsync([...path.split(' ').slice(1), '--help'], { from: 'user' }),
      ).rejects.toThrow()
      const own = help.slice(help.indexOf('\nOptions:'), help.indexOf('\nGlobal Options:'))
      const listed = own
        .split('\n')
        .filter(line => /^ {2}-/.test(line))
        .flatMap(line => line.split(/ {2,}/)[1]?.match(/(?<=^|, )--?[a-z][a-z-]*/g) ?? [])
      expect({ path, flags: [...flags].sort() }).toEqual({
        path,
        flags: [...new Set(listed)].filter(flag => flag !== '-h' && flag !== '--help').sort(),
      })
    }
  })

  it('says of every option that must be given that it is required, and of no other', async () => {
    for (const { path, command } of walk(programForHelp())) {
      let help = ''
      const program = programForHelp(text => {
        help += text
      })
      await expect(
        program.parseAsync([...path.split(' ').slice(1), '--help'], { from: 'user' }),
      ).rejects.toThrow()
      const wanted = command.options.filter(({ mandatory }) => mandatory).length
      expect(help.replaceAll(/\s+/g, ' ').split('(required)').length - 1, path).toBe(wanted)
    }
  })

  it('is shown with examples, and every description ends as a sentence', () => {
    for (const { path, command } of walk(programForHelp())) {
      expect(command.description(), path).toMatch(/^[A-Z].*\.$/)
    }
  })
})

describe('docs/exit-codes.md', () => {
  it('has exactly the codes of the program, with the same meanings', async () => {
    const text = await readFile(join(docs, 'exit-codes.md'), 'utf8')
    const rows = [...text.matchAll(/^\| (\d+) \| (.*) \|$/gm)].map(([, code, meaning]) => ({
      code: Number(code),
      meaning,
    }))
    expect(rows).toEqual(Object.values(exitCodes).map(({ code, meaning }) => ({ code, meaning })))
    expect(new Set(rows.map(({ code }) => code)).size).toBe(rows.length)
  })

  it('names the exit for every status of gRPC', async () => {
    const { status } = await import('@grpc/grpc-js')
    for (const code of Object.values(status)) {
      if (typeof code === 'number') expect(Object.keys(exitCodes)).toContain(exitForStatus(code))
    }
  })
})
