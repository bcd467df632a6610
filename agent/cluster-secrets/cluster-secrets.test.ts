import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { generateMachineKey } from '../../shared/x509/machine-key.ts'
import { openClusterSecrets, sealedDirectory } from './open-cluster-secrets.ts'
import { MAX_CLEAR_BYTES, openFile, sealFile } from './sealed-file.ts'

type Key = Awaited<ReturnType<typeof generateMachineKey>>
let own: Key
let other: Key
beforeAll(async () => {
  own = await generateMachineKey(2048)
  other = await generateMachineKey(2048)
})
const seal = (name: string, text: string) => sealFile(own.publicKeyDer, name, Buffer.from(text))

describe('a sealed file', () => {
  it('opens to the same bytes with the same key under the same name', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 3_000 }),
        fc.stringMatching(/^[a-z.-]{1,30}$/),
        (bytes, name) => {
          const opened = openFile(own.privateKeyPem, name, sealFile(own.publicKeyDer, name, bytes))
          expect(opened).toEqual({ kind: 'opened', bytes: Buffer.from(bytes) })
        },
      ),
      { numRuns: 60 },
    )
  })

  it('shows nothing of what it holds, and is another each time', () => {
    const [first, second] = [seal('token', 'very-secret-token'), seal('token', 'very-secret-token')]
    expect(first.toString('latin1')).not.toContain('very-secret')
    expect(first.equals(second)).toBe(false)
  })

  it('does not open with another key, or under another name', () => {
    const file = seal('token', 'x')
    expect(openFile(other.privateKeyPem, 'token', file)).toMatchObject({ kind: 'refused' })
    expect(openFile(own.privateKeyPem, 'agent-token', file)).toMatchObject({ kind: 'refused' })
  })

  it('does not open when a byte was changed, cut away or added', () => {
    const file = seal('token', 'a secret of some length')
    fc.assert(
      fc.property(fc.nat({ max: file.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const changed = Buffer.from(file)
        changed[at] = (changed[at] ?? 0) ^ flip
        expect(openFile(own.privateKeyPem, 'token', changed).kind).toBe('refused')
        expect(openFile(own.privateKeyPem, 'token', file.subarray(0, at)).kind).toBe('refused')
      }),
      { numRuns: 200 },
    )
    expect(openFile(own.privateKeyPem, 'token', Buffer.concat([file, Buffer.from('x')])).kind).toBe('refused')
  })

  it('has a bound', () => {
    const most = Buffer.alloc(MAX_CLEAR_BYTES, 1)
    expect(openFile(own.privateKeyPem, 'n', sealFile(own.publicKeyDer, 'n', most)).kind).toBe('opened')
    expect(() => sealFile(own.publicKeyDer, 'n', Buffer.alloc(MAX_CLEAR_BYTES + 1))).toThrow(/at most/)
    expect(openFile(own.privateKeyPem, 'n', Buffer.alloc(MAX_CLEAR_BYTES * 2))).toEqual({
      kind: 'refused',
      reason: expect.stringContaining('longer than'),
    })
    expect(() => sealFile(Buffer.from('no key'), 'n', most)).toThrow(RangeError)
  })
})

describe("a cluster's secrets at a boot", () => {
  let stateDir = ''
  let runDir = ''
  beforeEach(async () => {
    const folder = await mkdtemp(join(tmpdir(), 'muster-secrets-'))
    stateDir = join(folder, 'state')
    runDir = join(folder, 'run')
    await mkdir(sealedDirectory(stateDir), { recursive: true })
    await writeFile(join(stateDir, 'key.pem'), own.privateKeyPem, { mode: 0o600 })
  })
  afterEach(async () => await rm(join(stateDir, '..'), { recursive: true }))
  const keep = async (name: string, bytes: Uint8Array) =>
    await writeFile(join(sealedDirectory(stateDir), name), bytes)

  it('are opened for root alone, with what the units wait for', async () => {
    await keep('ready', seal('ready', ''))
    await keep('token', seal('token', 'K10abc::node:x'))
    await keep('start.env', seal('start.env', 'K3S_URL=https://10.0.0.1:6443\n'))
    expect(await openClusterSecrets(stateDir, runDir)).toEqual({
      kind: 'opened',
      names: ['ready', 'start.env', 'token'],
    })
    expect(await readFile(join(runDir, 'token'), 'utf8')).toBe('K10abc::node:x')
    expect((await stat(runDir)).mode & 0o777).toBe(0o700)
    expect((await stat(join(runDir, 'token'))).mode & 0o777).toBe(0o600)
    const times = await Promise.all(
      ['token', 'start.env', 'ready'].map(async name => (await stat(join(runDir, name))).mtimeMs),
    )
    expect(Math.max(...times)).toBe(times[2])
  })

  it('are none on a machine without a cluster, even before it has a key', async () => {
    expect(await openClusterSecrets(stateDir, runDir)).toEqual({ kind: 'none' })
    await rm(stateDir, { recursive: true })
    expect(await openClusterSecrets(stateDir, runDir)).toEqual({ kind: 'none' })
  })

  it('let no unit start when one of them does not open, which is named', async () => {
    await keep('ready', seal('ready', ''))
    await keep('token', sealFile(other.publicKeyDer, 'token', Buffer.from('x')))
    expect(await openClusterSecrets(stateDir, runDir)).toEqual({
      kind: 'failed',
      reasons: [expect.stringMatching(/sealed\/token: does not open with this machine's key/)],
    })
    await expect(readdir(runDir)).rejects.toThrow(/ENOENT/)
  })

  it('pass over what a write that was cut short left behind', async () => {
    await keep('ready', seal('ready', ''))
    await keep('.token.0123.tmp', Buffer.from('half'))
    expect(await openClusterSecrets(stateDir, runDir)).toEqual({ kind: 'opened', names: ['ready'] })
  })

  it('say when the key is gone, and when there are too many', async () => {
    await keep('ready', seal('ready', ''))
    await rm(join(stateDir, 'key.pem'))
    expect(await openClusterSecrets(stateDir, runDir)).toMatchObject({
      kind: 'failed',
      reasons: [expect.stringContaining('has no key')],
    })
    for (let n = 0; n < 64; n++) await keep(`f${n}`, Buffer.alloc(0))
    expect(await openClusterSecrets(stateDir, runDir)).toMatchObject({
      reasons: [expect.stringContaining('holds 65 files')],
    })
  })
})
