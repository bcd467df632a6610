import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { findSecretsIn } from '../../shared/tree/find-secrets.ts'
import { findTreeSecrets } from './tree-secrets.ts'

// Put together here, so that scanners of this repository find no secrets in it.
const pem = (kind: string, body: string, end = '\n') =>
  `-----BEGIN ${kind}PRIVATE ${'KEY'}-----${end}${body}${end}-----END ${kind}PRIVATE ${'KEY'}-----${end}`
const BODY = 'MIIEvQIBADANBgkqhkiG9w0BAQEFAASC'
const OPEN_SSH = 'b3BlbnNzaC1rZXktdjEAAAAA'
const K3S = `K10${'0f'.repeat(32)}::server:${'ab'.repeat(16)}`
const packed = (text: string) => gzipSync(`${text}\n${randomBytes(120).toString('hex')}`).toString('base64')
const secrets: readonly (readonly [what: string, text: string])[] = [
  ['a private key', pem('', BODY)],
  ['a private key', pem('RSA ', BODY)],
  ['a private key', pem('', BODY, '\\n')],
  ['a private key', pem('OPENSSH ', `${OPEN_SSH}BG5vbmUAAAAE`)],
  ['a k3s token', K3S],
  ['a k0s join token', packed('users: [{ name: kubelet-bootstrap }]')],
  ['a Muster enrolment token', ['k3vd92', 'c2VjcmV0LXRleHQ', '0f'.repeat(32), 'f0'.repeat(32)].join('.')],
  ['a secret signing key of Nix', `cache.home-1:${'A'.repeat(86)}==`],
  ['an age secret key', `AGE-SECRET-${'KEY-1'}${'Q'.repeat(58)}`],
  ['a Tailscale key', `tskey-${'auth'}-k1CNTRLabc-${'a1'.repeat(16)}`],
  ['a GitHub token', `ghp_${'a1'.repeat(18)}`],
]
const harmless = [
  pem('ENCRYPTED ', BODY),
  pem('OPENSSH ', `${OPEN_SSH}CmFlczI1Ni1jdHIAAAAGYmNyeXB0`),
  pem('RSA ', `Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n${BODY}`),
  `a file that begins with -----BEGIN PRIVATE ${'KEY'}-----, and no more of it`,
  'token: K10…::server:x',
  'token: ENC[AES256_GCM,data:Cc0Vb0X=,iv:abc=,tag:def=,type:str]\nsops:\n  age: []\n',
  `-----BEGIN AGE ENCRYPTED FILE-----\n${BODY}\n-----END AGE ENCRYPTED FILE-----\n`,
  packed('kind: ConfigMap'),
  `hash = "sha512:${'A'.repeat(86)}==";`,
  'cache.home-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=',
  'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p',
]

describe('T9: a secret in any file of the fleet directory', () => {
  it.each(secrets)('%s is found by its place', (what, text) => {
    expect(findSecretsIn(`{\n  x = "${text}";\n}\n`)).toMatchObject([{ what, line: 2 }])
  })

  it.each(harmless)('and nothing that only looks like one, or is encrypted: %j', text => {
    expect(findSecretsIn(text)).toEqual([])
  })

  it('is none where a person says so on its line, or the one above', () => {
    expect(findSecretsIn(`${K3S} # muster:no-secret\n`)).toEqual([])
    expect(findSecretsIn(`# muster:no-secret: a snake oil key\n${pem('', BODY)}`)).toEqual([])
    expect(findSecretsIn(`# muster:no-secret\n\n${K3S}\n`)).toMatchObject([{ line: 3 }])
    expect(findSecretsIn(`${K3S} # muster:no-secret\n\n${K3S}\n`)).toMatchObject([{ line: 3 }])
  })

  it('is found in whatever would be packed, and nowhere else', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'muster-secrets-'))
    try {
      const put = async (path: string, content: string | Buffer) => {
        await mkdir(dirname(join(dir, path)), { recursive: true })
        await writeFile(join(dir, path), content)
      }
      await put('fleet.toml', `# ${K3S}\n`)
      await put('.gitignore', 'ignored\n')
      await put('ignored', K3S)
      await put('image.bin', Buffer.concat([Buffer.from([0]), Buffer.from(K3S)]))
      await put('hosts/n1.nix', `{\n  services.k3s.token = "${K3S}";\n}\n`)
      await put('manifests/main/s.yaml', `stringData:\n  token: ${K3S}\n`)
      await symlink('hosts/n1.nix', join(dir, 'link'))
      const problems = await findTreeSecrets(dir)
      expect(problems.map(({ file, line, severity }) => [file, line, severity])).toEqual([
        [join(dir, 'hosts/n1.nix'), 2, 'error'],
        [join(dir, 'manifests/main/s.yaml'), 2, 'error'],
      ])
      expect(JSON.stringify(problems)).not.toContain(K3S)
    } finally {
      await rm(dir, { recursive: true })
    }
  })

  it('takes no long time for a long line', () => {
    const text = `${'H4sI'.repeat(100_000)}${'-----BEGIN '.repeat(50_000)}${':A'.repeat(100_000)}`
    const began = performance.now()
    expect(findSecretsIn(text)).toEqual([])
    expect(performance.now() - began).toBeLessThan(5_000)
  })
})
