import { describe, expect, it } from 'vitest'
import { judgeKubeconfig } from './judge-kubeconfig.ts'

const GOOD = `apiVersion: v1
kind: Config
clusters:
- name: default
  cluster:
    server: https://10.0.100.9:6443
    certificate-authority-data: QUJD
contexts:
- name: default
  context: { cluster: default, user: default }
current-context: default
preferences: {}
users:
- name: default
  user:
    client-certificate-data: QUJD
    client-key-data: QUJD
`
const judge = (text: string | Uint8Array) =>
  judgeKubeconfig(typeof text === 'string' ? Buffer.from(text) : text)

describe('a kubeconfig that a server made', () => {
  it('passes as it came when it holds address, authority and credential', async () => {
    expect(judge(GOOD)).toEqual({ kind: 'good', text: GOOD })
    expect(judge(GOOD.replaceAll('client-key-data', 'token')).kind).toBe('good')
  })

  it.each([
    [
      'a program for kubectl to run',
      '  user:\n',
      '  user:\n    exec: { command: sh, apiVersion: v1 }\n',
      'exec',
    ],
    ['another program', '  user:\n', '  user:\n    auth-provider: { name: x }\n', 'auth-provider'],
    ['a file to read', '  user:\n', '  user:\n    tokenFile: /etc/shadow\n', 'tokenFile'],
    [
      'a connection nobody checks',
      'cluster:\n',
      'cluster:\n    insecure-skip-tls-verify: true\n',
      'insecure',
    ],
    ['a way through somebody else', 'cluster:\n', 'cluster:\n    proxy-url: http://x\n', 'proxy-url'],
    ['a second list', 'preferences: {}', 'Users: []', 'Users'],
    ['a list merged in', 'preferences: {}', '<<: { users: [] }', '<<'],
    ['an entry merged in', '- name: default\n  user:', '- name: default\n  <<: { user: {} }\n  user:', '<<'],
    ['no user', /users:[\s\S]*$/, '', 'no users'],
    ['no YAML', /^/, '{', 'not YAML'],
    ['two documents', /$/, '---\nusers: []\n', 'not YAML'],
    ['an escape for the terminal', 'default', 'default\u001b[2J', 'control'],
    ['an alias', 'preferences: {}', 'preferences: &a {}\nkind2: *a', 'refers'],
  ])('is refused with %s', async (_, find, put, reason) => {
    const verdict = judge(GOOD.replace(find, put))
    expect(verdict).toMatchObject({ kind: 'refused', reason: expect.stringContaining(reason) })
  })

  it('is refused when it is no text', async () => {
    expect(judge(Uint8Array.from([0xff, 0xfe]))).toMatchObject({ kind: 'refused' })
    expect(judge('just a text')).toMatchObject({ kind: 'refused' })
  })
})
