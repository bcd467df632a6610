import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'

const sources = readdirSync(import.meta.dirname, { recursive: true, encoding: 'utf8' })
  .filter(name => name.endsWith('.ts') && !name.endsWith('.test.ts') && !name.includes('testing/'))
  .map(name => ({ name, text: readFileSync(join(import.meta.dirname, name), 'utf8') }))

it('T10: has no plaintext clients but those of sockets on this machine', () => {
  const insecure = sources.filter(({ text }) => /credentials\.createInsecure\(/.test(text))
  const names = ['drivers/cri/runtime-client.ts', 'local/commands.ts']
  expect(insecure.map(({ name }) => name).toSorted()).toEqual(names)
  for (const { text } of insecure) expect(text.match(/createInsecure/g)).toHaveLength(1)
  expect(insecure.find(({ name }) => name === 'local/commands.ts')?.text).toMatch(
    /createClient\(LocalService, `unix:\$\{socket\}`, credentials\.createInsecure\(\)\)/,
  )
  // Where a kubelet finds its container runtime is read from the system, and nothing but a socket is taken there.
  const facts = sources.find(({ name }) => name === 'drivers/cluster-facts.ts')
  expect(facts?.text).toMatch(/return runtime\.startsWith\('unix:\/\/\/'\) \? \{ folder, runtime \} : '/)
  // A health gate asks what the signed fleet file names, and takes nothing from it but an answer's state.
  const clients = sources.filter(({ text }) =>
    // A type is no client.
    /from 'node:(http|http2)'|\bfetch\(/.test(text.replace(/^import type .*$/gm, '')),
  )
  expect(clients.map(({ name }) => name)).toEqual(['gates/probe-http.ts'])
})

it('N43: takes its roots on purpose, never the system’s', () => {
  for (const { name, text } of sources) {
    // A cluster's etcd has an authority of its own, and it is named there: never none, which would mean the system's.
    const checked =
      name === 'drivers/etcd/etcd-client.ts' ? text.replaceAll('createSsl(ca, key, cert)', '') : text
    expect(checked, name).not.toMatch(/createSsl\(|rejectUnauthorized|NODE_TLS_REJECT/)
  }
  // An API server is of the authority that its kubeconfig names, a member of the datastore of its own.
  const toApi = sources.find(({ name }) => name === 'drivers/ask-once.ts')
  expect(toApi?.text).toMatch(/request\(\s*url,\s*\{ \.\.\.only\(tls\), agent: false, \.\.\.options/)
  expect(toApi?.text).toMatch(/'cert' in tls \? \{ ca: tls\.ca, [^}]*\} : \{ ca: tls\.ca \}/)
  expect(toApi?.text).toMatch(/interface ServerTls \{\s*readonly ca: Buffer\s*\}/)
})
