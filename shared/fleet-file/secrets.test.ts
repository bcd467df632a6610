import { describe, expect, it } from 'vitest'
import { formatProblems, quote } from './problem.ts'
import { readFleetFile } from './read-fleet-file.ts'
import { findSecret } from './secrets.ts'

// Put together here, so that scanners of this repository find no secrets in it.
const secrets: readonly (readonly [what: string, text: string])[] = [
  ['a private key', `-----BEGIN ${'PRIVATE'} KEY-----`],
  ['a private key', `-----BEGIN OPENSSH ${'PRIVATE'} KEY-----`],
  ['a private key', `-----BEGIN RSA ${'PRIVATE'} KEY-----`],
  ['a k3s token', `K10${'0f'.repeat(32)}::server:${'ab'.repeat(16)}`],
  ['a k3s token', 'K10…::server:x'],
  ['a k3s token', `K10${'0f'.repeat(32)}::node:${'ab'.repeat(16)}`],
  ['a kubeadm token', ['abcdef', '0123456789abcdef'].join('.')],
  ['a k0s join token', `H4sI${'A'.repeat(400)}`],
  ['a Muster enrolment token', ['k3vd92', 'c2VjcmV0LXRleHQ', '0f'.repeat(32), 'f0'.repeat(32)].join('.')],
  ['a secret signing key of Nix', `cache.home-1:${'A'.repeat(86)}==`],
  ['an age secret key', `AGE-SECRET-${'KEY-1'}QQQQQQ`],
  ['a Tailscale key', `tskey-${'auth'}-k1CNTRL`],
  ['a GitHub token', `ghp_${'a1'.repeat(18)}`],
  ['a password hash', `$6$salt$${'x'.repeat(86)}`],
  ['a password hash', `$y$j9T$${'x'.repeat(30)}`],
]

const harmless = [
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ada@home',
  'cache.home-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=',
  'a'.repeat(64),
  'https://server.mycompanynames16/cache',
  'server.mycompanynameslong',
  'worker.node1234567890ab.home',
  '-----BEGIN CERTIFICATE-----',
  'S4EVNX0M123456',
  '4c4c4544-0051-3610-8052-b4c04f4d4e32',
  'costs $5 and $6',
]

const head = '[fleet]\nname = "a"\nid = "5f1c0a7be2d94c3386a1f0d2b7c4e895"\n'

describe('T9: a secret in the fleet file', () => {
  it.each(secrets)('that is %s is refused in any value, and not shown', (what, secret) => {
    const text = `${head}[hosts.a]\nextra = { a = "${secret}" }\n`
    const printed = formatProblems(readFleetFile(text, 'f').problems)
    expect(printed).toMatch(`f:5:15: error: hosts.a.extra.a: this looks like ${what}; `)
    expect(printed.trimEnd().split('\n')).toHaveLength(1)
    expect(printed).not.toContain(secret)
  })

  it.each(secrets)('that is %s is refused in a comment and in a file that is no TOML', (what, secret) => {
    expect(formatProblems(readFleetFile(`${head}\n# ${secret}\n`, 'f').problems)).toContain(`f:5:`)
    expect(formatProblems(readFleetFile(`a = = # ${secret}`, 'f').problems)).toContain(`looks like ${what}`)
  })

  it.each(secrets)('that is %s is not repeated when the value is wrong otherwise', (_, secret) => {
    const text = `${head}[hosts.a]\naddress = "${secret}"\nlabels = { "${secret}" = "${secret}" }\n`
    const printed = formatProblems(readFleetFile(text, 'f').problems)
    expect(printed).toContain('hosts.a.address: (hidden) is no IP address')
    expect(printed).not.toContain(secret)
  })

  it.each(secrets)('that is %s is not shown with the place in a rule', (_, secret) => {
    const text = `${head}[groups.g]\nname = "g-{serial}"\nadmit = "facts.x == '${secret}' +"\n`
    const checkRule = (rule: string) => ({ reason: 'unexpected end', place: `  ${rule}\n  ^` })
    const printed = formatProblems(readFleetFile(text, 'f', { checkRule }).problems)
    expect(printed).toContain('groups.g.admit: the rule cannot be read')
    expect(printed).not.toContain(secret)
  })

  it('in text over several lines is found once', () => {
    const text = `${head}[hosts.a]\nextra.key = """\nfirst\n${secrets[0]?.[1]}\n"""\n`
    const { problems } = readFleetFile(text, 'f')
    expect(problems.map(({ line, path }) => [line, path])).toEqual([[5, 'hosts.a.extra.key']])
  })

  it.each(harmless)('is not seen in %s', text => {
    expect(findSecret(text)).toBeUndefined()
  })

  it('is searched in linear time', () => {
    const start = performance.now()
    for (const unit of ['a', 'a-', 'K10', 'K10…', 'ab.', '0f.', '-----BEGIN ', 'x:', '$6$', 'tskey-']) {
      findSecret(unit.repeat(1_000_000 / unit.length))
    }
    console.log(`searched 10 MB in ${Math.round(performance.now() - start)} ms`)
    // Quadratic time would be many minutes.
    expect(performance.now() - start).toBeLessThan(20_000)
  })
})

describe('a value inside a message', () => {
  it('is cut, and has no characters that a terminal obeys', () => {
    expect(quote('\u001b[31mred\nline\u202e')).toBe('"\\u001b[31mred\\u000aline\\u202e"')
    expect(quote('x'.repeat(100))).toBe(`"${'x'.repeat(60)}…"`)
  })
})
