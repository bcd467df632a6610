import { spawn } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { watch } from 'node:fs'
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type GeneratedKey, generateMachineKey } from '../../shared/x509/machine-key.ts'
import { readPeerIdentity } from '../../shared/x509/peer-identity.ts'
import { type Authorities, openAuthorities } from './authorities.ts'
import { AUTHORITY_FILE } from './authority-file.ts'

const day = 86_400_000
let folder: string
let template: string
let key: GeneratedKey

/** One authority is made for the whole file; tests work on copies of its folder. */
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-authority-'))
  template = join(folder, 'template')
  await using made = await openAuthorities(template, { clock, names: [] })
  expect(made.list()).toHaveLength(1)
  key = await generateMachineKey(2048)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const clock = { now: () => new Date() }
let copies = 0
async function copy(): Promise<string> {
  const target = join(folder, `copy-${copies++}`)
  await cp(template, target, { recursive: true, mode: 0 })
  return target
}

const leafOf = (authorities: Authorities) => new X509Certificate(authorities.serverContext().certChainPem)
const pinsOf = (authorities: Authorities) => authorities.list().map(({ pin }) => pin)

describe('openAuthorities', () => {
  it('T18: keeps keys, certificates and which one issues in one file of mode 0600 in a folder of mode 0700', async () => {
    expect((await stat(template)).mode & 0o777).toBe(0o700)
    expect((await stat(join(template, AUTHORITY_FILE))).mode & 0o777).toBe(0o600)
    expect(await readdir(template)).toEqual([AUTHORITY_FILE])
  })

  it('loads the same authority again, of 3072 bits and ten years', async () => {
    await using first = await openAuthorities(template, { clock, names: [] })
    await using second = await openAuthorities(template, { clock, names: [] })
    expect(pinsOf(second)).toEqual(pinsOf(first))
    const [view] = second.list()
    const certificate = new X509Certificate(view?.certificatePem ?? '')
    expect(certificate.publicKey.asymmetricKeyDetails?.modulusLength).toBe(3072)
    expect(new Date(certificate.validTo).getTime() - Date.now()).toBeGreaterThan(3649 * day)
    expect(new Date(certificate.validFrom).getTime()).toBeLessThan(Date.now() - day + 60_000)
  })

  it('never makes a new authority where one cannot be read', async () => {
    const good = await readFile(join(template, AUTHORITY_FILE), 'utf8')
    const directory = await copy()
    const path = join(directory, AUTHORITY_FILE)
    const parsed = JSON.parse(good)
    const [entry] = parsed.authorities
    const damaged = {
      empty: '',
      'cut short': good.slice(0, good.length / 2),
      'another version': JSON.stringify({ ...parsed, version: 2 }),
      'an unknown field': JSON.stringify({ ...parsed, extra: 1 }),
      'no authorities': JSON.stringify({ ...parsed, authorities: [] }),
      'an issuer that is not there': JSON.stringify({ ...parsed, issuing: 'ab'.repeat(32) }),
      'the same twice': JSON.stringify({ ...parsed, authorities: [entry, entry] }),
      'another key': JSON.stringify({
        ...parsed,
        authorities: [{ ...entry, privateKeyPem: key.privateKeyPem }],
      }),
      'a damaged key': good.replace(/(BEGIN PRIVATE KEY-----\\n.{100})./, '$1!'),
      'a damaged certificate': good.replace(/(BEGIN CERTIFICATE-----\\n.{100})./, '$1!'),
    }
    for (const [what, content] of Object.entries(damaged)) {
      await writeFile(path, content)
      const opening = openAuthorities(directory, { clock, names: [] })
      await expect(opening, what).rejects.toThrow(/authorities\.json is damaged: .*restore it from a backup/s)
      await expect(openAuthorities(directory, { clock, names: [] })).rejects.not.toThrow(/PRIVATE KEY/)
      expect(await readFile(path, 'utf8'), what).toBe(content)
    }
  })

  it('refuses a file that others can read, a folder in its place, and a folder with something else in it', async () => {
    const open = await copy()
    await chmod(join(open, AUTHORITY_FILE), 0o644)
    await expect(openAuthorities(open, { clock, names: [] })).rejects.toThrow('mode 644')

    const strange = join(folder, 'strange')
    await mkdir(join(strange, AUTHORITY_FILE), { recursive: true })
    await expect(openAuthorities(strange, { clock, names: [] })).rejects.toThrow('EISDIR')

    const renamed = join(folder, 'renamed')
    await mkdir(renamed)
    await writeFile(join(renamed, 'authorities.json.bak'), 'x')
    await expect(openAuthorities(renamed, { clock, names: [] })).rejects.toThrow(
      'authorities.json is missing',
    )
  })

  it('makes none where it may not', async () => {
    const directory = join(folder, 'none')
    await expect(openAuthorities(directory, { clock, names: [], mayCreate: false })).rejects.toThrow('backup')
    expect(await readdir(directory)).toEqual([])
  })

  it('removes what a write that was cut short left behind, and goes on with the old state', async () => {
    const directory = await copy()
    await writeFile(join(directory, '.authorities.json.0123456789ab.tmp'), '{"version":1,', { mode: 0o600 })
    await using authorities = await openAuthorities(directory, { clock, names: [] })
    await using original = await openAuthorities(template, { clock, names: [] })
    expect(pinsOf(authorities)).toEqual(pinsOf(original))
    expect(await readdir(directory)).toEqual([AUTHORITY_FILE])
  })

  it('makes the authority at last when the first start was cut short before it had one', async () => {
    const directory = join(folder, 'first')
    await mkdir(directory)
    await writeFile(join(directory, '.authorities.json.0123456789ab.tmp'), '{"vers', { mode: 0o600 })
    await using authorities = await openAuthorities(directory, { clock, names: [] })
    expect(authorities.list()).toMatchObject([{ issuing: true, shown: true }])
    expect(await readdir(directory)).toEqual([AUTHORITY_FILE])
  })

  it('refuses a name that no certificate can carry', async () => {
    await expect(openAuthorities(template, { clock, names: ['not a name'] })).rejects.toThrow('"not a name"')
  })
})

describe('issuing', () => {
  it('tells machines, operators and servers apart, with the documented lifetimes, backdated a day', async () => {
    await using authorities = await openAuthorities(template, { clock, names: [] })
    const read = (pem: string) => {
      const reading = readPeerIdentity(new X509Certificate(pem))
      if (!reading.ok) throw new Error(reading.reason)
      return reading.identity
    }
    const machine = authorities.issueMachine(key.publicKeyDer)
    const operator = authorities.issueOperator(key.publicKeyDer, 'Anna')
    if (!machine.ok || !operator.ok) throw new Error('refused')
    const ofMachine = read(machine.certificate.certificatePem)
    const ofOperator = read(operator.certificate.certificatePem)
    expect(ofMachine).toMatchObject({ kind: 'machine', id: machine.id })
    expect(ofMachine).not.toHaveProperty('name')
    expect(ofOperator).toMatchObject({ kind: 'operator', id: operator.id, name: 'Anna' })
    expect(read(authorities.serverContext().certChainPem).kind).toBe('server')
    expect(Math.abs(ofMachine.notAfter.getTime() - Date.now() - 30 * day)).toBeLessThan(60_000)
    expect(Math.abs(ofOperator.notAfter.getTime() - Date.now() - 90 * day)).toBeLessThan(60_000)
    expect(Math.abs(ofMachine.notBefore.getTime() - Date.now() + day)).toBeLessThan(60_000)
    expect(authorities.issuerOf(new X509Certificate(machine.certificate.certificatePem))).toBe(machine.issuer)
  })

  it('refuses a key, a name and a lifetime that may not be, as values', async () => {
    await using authorities = await openAuthorities(template, { clock, names: [] })
    expect(authorities.issueMachine(Buffer.from('rubbish'))).toMatchObject({ ok: false })
    expect(authorities.issueOperator(key.publicKeyDer, '')).toMatchObject({ ok: false })
    expect(authorities.issueOperator(key.publicKeyDer, 'Anna', 367 * day)).toMatchObject({ ok: false })
    expect(authorities.issueOperator(key.publicKeyDer, 'Anna', Number.NaN)).toMatchObject({ ok: false })
    expect(authorities.issueOperator(key.publicKeyDer, 'Anna', 366 * day)).toMatchObject({ ok: true })
  })

  it('issues nothing from an authority that has expired, and says so', async () => {
    const late = { now: () => new Date(Date.now() + 4000 * day) }
    await using authorities = await openAuthorities(template, { clock: late, names: [] })
    expect(authorities.issueMachine(key.publicKeyDer)).toMatchObject({ ok: false, reason: /rotate/ })
  })
})

describe('the listeners’ certificate', () => {
  it('is of 2048 bits and carries the names it is reached by, and changes with them', async () => {
    await using authorities = await openAuthorities(template, {
      clock,
      names: ['muster.example', '10.1.2.3'],
    })
    const leaf = leafOf(authorities)
    expect(leaf.publicKey.asymmetricKeyDetails?.modulusLength).toBe(2048)
    for (const host of ['muster.example', 'localhost']) expect(leaf.checkHost(host)).toBe(host)
    for (const ip of ['10.1.2.3', '127.0.0.1', '::1']) expect(leaf.checkIP(ip)).toBe(ip)
    let changes = 0
    const stop = authorities.onChange(() => changes++)
    await authorities.setNames(['10.1.2.3', 'muster.example', '10.1.2.3'])
    await authorities.setNames(['other.example'])
    expect(changes).toBeLessThanOrEqual(2)
    expect(leafOf(authorities).checkHost('other.example')).toBe('other.example')
    expect(leafOf(authorities).checkHost('muster.example')).toBeUndefined()
    await expect(authorities.setNames(['a b'])).rejects.toThrow('a b')
    stop()
    changes = 0
    await authorities.setNames(['third.example'])
    expect(changes).toBe(0)
  })

  it('is made anew at two thirds of its life, not before', async () => {
    let now = Date.now()
    const moving = { now: () => new Date(now) }
    const lifetimes = { serverMs: 30 * day }
    await using authorities = await openAuthorities(template, { clock: moving, names: [], lifetimes })
    const first = leafOf(authorities).serialNumber
    now += 20 * day - 60_000
    expect(await authorities.renewIfDue()).toBe(false)
    expect(leafOf(authorities).serialNumber).toBe(first)
    now += 120_000
    expect(await authorities.renewIfDue()).toBe(true)
    expect(leafOf(authorities).serialNumber).not.toBe(first)
    expect(authorities.serverContext().notAfter.getTime()).toBeGreaterThan(now + 29 * day)
  })

  it('is made anew by itself while the coordinator runs', async () => {
    await using authorities = await openAuthorities(template, {
      clock,
      names: [],
      lifetimes: { serverMs: 2000 },
    })
    const first = leafOf(authorities).serialNumber
    await expect.poll(() => leafOf(authorities).serialNumber, { timeout: 10_000 }).not.toBe(first)
  })
})

describe('rotation', () => {
  it('adds, switches and drops, each step durable, the listeners showing the old authority until it is dropped', async () => {
    const directory = await copy()
    await using authorities = await openAuthorities(directory, { clock, names: [] })
    const reread = async () => {
      await using other = await openAuthorities(directory, { clock, names: [] })
      return other.list().map(({ pin, issuing, shown }) => ({ pin, issuing, shown }))
    }
    const [old = ''] = pinsOf(authorities)
    const added = await authorities.add()
    if (!added.ok) throw new Error(added.reason)
    expect(await reread()).toEqual([
      { pin: old, issuing: true, shown: true },
      { pin: added.pin, issuing: false, shown: false },
    ])
    expect(authorities.serverContext().clientCasPem).toHaveLength(2)
    const before = authorities.issueMachine(key.publicKeyDer)
    expect(before).toMatchObject({ ok: true, issuer: old })
    expect(await authorities.drop(old)).toMatchObject({ ok: false })
    expect(await authorities.switchTo('ab'.repeat(32))).toMatchObject({ ok: false })

    expect(await authorities.switchTo(added.pin)).toMatchObject({ ok: true })
    expect(await reread()).toEqual([
      { pin: old, issuing: false, shown: true },
      { pin: added.pin, issuing: true, shown: false },
    ])
    expect(authorities.issueMachine(key.publicKeyDer)).toMatchObject({ ok: true, issuer: added.pin })
    expect(authorities.shownPin).toBe(old)

    expect(await authorities.drop(old)).toMatchObject({ ok: true })
    expect(await reread()).toEqual([{ pin: added.pin, issuing: true, shown: true }])
    expect(authorities.shownPin).toBe(added.pin)
    expect(authorities.serverContext().clientCasPem).toHaveLength(1)
    expect(await readFile(join(directory, AUTHORITY_FILE), 'utf8')).not.toContain(old)
    if (before.ok) {
      expect(authorities.issuerOf(new X509Certificate(before.certificate.certificatePem))).toBeUndefined()
    }
  })

  it('keeps the old state, in memory and on disk, when a step cannot be written', async () => {
    const directory = await copy()
    await using authorities = await openAuthorities(directory, { clock, names: [] })
    const pins = pinsOf(authorities)
    await rm(directory, { recursive: true })
    await expect(authorities.add()).rejects.toThrow('ENOENT')
    expect(pinsOf(authorities)).toEqual(pins)
    expect(authorities.serverContext().clientCasPem).toHaveLength(1)
  })

  it('leaves one whole state behind when it is killed at any moment of a write', async () => {
    const directory = await copy()
    const program = join(import.meta.dirname, 'testing/rotate-for-ever.ts')
    const seen = new Set<string>()
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 12 }), async events => {
        const child = spawn(process.execPath, ['--import', 'tsx', program, directory], {
          cwd: import.meta.dirname,
          stdio: ['ignore', 'ignore', 'inherit'],
        })
        const ended = new Promise(resolve => child.once('exit', resolve))
        // Each write makes a file, fills it and renames it: the kill falls on one of these, in one of the steps.
        let left = events
        const watcher = watch(directory, () => {
          if (--left === 0) child.kill('SIGKILL')
        })
        await ended
        watcher.close()
        expect(child.signalCode).toBe('SIGKILL')
        await using authorities = await openAuthorities(directory, { clock, names: [], mayCreate: false })
        expect(authorities.list().filter(({ issuing }) => issuing)).toHaveLength(1)
        expect(authorities.issueMachine(key.publicKeyDer)).toMatchObject({ ok: true })
        expect(await readdir(directory)).toEqual([AUTHORITY_FILE])
        for (const pin of pinsOf(authorities)) seen.add(pin)
        // What this run left half done is finished, so that the next one finds room to add.
        for (const { pin, issuing } of authorities.list()) if (!issuing) await authorities.drop(pin)
      }),
      { numRuns: 4, examples: [[1], [5], [9]] },
    )
    expect(seen.size).toBeGreaterThan(1)
  })
})
