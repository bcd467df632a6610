import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { top } from './pages.ts'
import { type Declaration, readDeclarations } from './proto-comments.ts'

const folder = join(top, 'proto/muster/v1')
const declarations = readdirSync(folder)
  .filter(name => name.endsWith('.proto'))
  .flatMap(name => readDeclarations(name, readFileSync(join(folder, name), 'utf8')))

/** The messages that carry nothing but what a call takes and gives back: the comment of the call is theirs. */
const wrappers = new Set(
  declarations
    .filter(({ kind }) => kind === 'rpc')
    .flatMap(({ name }) => {
      const call = name.split('.').at(-1) ?? ''
      return [`${call}Request`, `${call}Response`]
    }),
)

function isSelfEvident({ kind, name }: Declaration): boolean {
  return (kind === 'message' && wrappers.has(name)) || (kind === 'value' && name.endsWith('_UNSPECIFIED'))
}

describe('the comments of the API', () => {
  it('stand above every service, call, message, field and value', () => {
    const bare = declarations.filter(one => !one.documented && !isSelfEvident(one))
    expect(bare.map(({ name, line }) => `${name} (line ${line})`)).toEqual([])
  })

  it('were looked for everywhere', () => {
    const count = (kind: Declaration['kind']) => declarations.filter(one => one.kind === kind).length
    expect(count('service')).toBe(6)
    expect(count('rpc')).toBeGreaterThan(40)
    expect(count('field')).toBeGreaterThan(400)
    expect(count('value')).toBeGreaterThan(30)
  })

  it('are missed where there are none', () => {
    const text =
      'message A {\n  // Said.\n  string b = 1;\n  map<string, string> c = 2;\n\n  string d = 3;\n}\n'
    expect(
      readDeclarations('x', text)
        .filter(one => !one.documented)
        .map(({ name }) => name),
    ).toEqual(['A', 'A.c', 'A.d'])
    expect(() => readDeclarations('x', 'message A {\n  group b;\n}\n')).toThrow('not understood')
  })
})
