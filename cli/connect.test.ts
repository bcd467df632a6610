import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Server, ServerCredentials } from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createAuthority, openAuthority } from '../shared/x509/authority.ts'
import { issueCertificate } from '../shared/x509/issue-certificate.ts'
import { keyId } from '../shared/x509/key-id.ts'
import { type GeneratedKey, generateMachineKey } from '../shared/x509/machine-key.ts'
import { readSettings } from './config.ts'
import { chooseWay, DEFAULT_SOCKET } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { type Ran, runMuster } from './testing/run-muster.ts'
import { type SmallCoordinator, startSmallCoordinator } from './testing/small-coordinator.ts'

const nothing = { socket: undefined, profile: undefined }
const nobody = { socket: undefined, profiles: [] }

describe('chooseWay', () => {
  it.each([
    [
      'what the command line says',
      { socket: '/a' },
      { socket: '/b', profile: undefined },
      { socket: '/c', profiles: ['x'] },
      { kind: 'socket', path: '/a' },
    ],
    [
      'a profile of the command line',
      { profile: 'ann' },
      { socket: '/b', profile: undefined },
      nobody,
      { kind: 'profile', name: 'ann' },
    ],
    [
      'what the environment says',
      {},
      { socket: undefined, profile: 'bob' },
      { socket: '/c', profiles: [] },
      { kind: 'profile', name: 'bob' },
    ],
    [
      'a coordinator on this machine',
      {},
      nothing,
      { socket: '/c', profiles: ['x'] },
      { kind: 'socket', path: '/c' },
    ],
    ['the only profile', {}, nothing, { socket: undefined, profiles: ['x'] }, { kind: 'profile', name: 'x' }],
    ['the default place', {}, nothing, nobody, { kind: 'socket', path: DEFAULT_SOCKET }],
  ] as const)('takes %s', (_, flags, environment, found, way) => {
    expect(chooseWay(flags, environment, found)).toMatchObject(way)
  })

  it('never guesses between two', () => {
    expect(() => chooseWay({ socket: '/a', profile: 'b' }, nothing, nobody)).toThrow('one of the two')
    expect(() => chooseWay({}, { socket: '/a', profile: 'b' }, nobody)).toThrow('both set')
    expect(() => chooseWay({}, nothing, { socket: undefined, profiles: ['x', 'y'] })).toThrow('x, y')
  })
})

describe('readSettings', () => {
  it('finds the configuration by the rules of XDG', () => {
    const home = (more: Record<string, string>) => readSettings({ HOME: '/home/ann', ...more }).configHome
    expect(home({})).toBe('/home/ann/.config/muster')
    expect(home({ XDG_CONFIG_HOME: '/x' })).toBe('/x/muster')
    expect(home({ XDG_CONFIG_HOME: 'relative' })).toBe('/home/ann/.config/muster')
    expect(home({ XDG_CONFIG_HOME: '/x', MUSTER_CONFIG_HOME: '/y' })).toBe('/y')
  })

  it('takes an empty variable for one that is not set', () => {
    expect(readSettings({ MUSTER_SOCKET: '', NO_COLOR: '' })).toMatchObject({
      socket: undefined,
      noColour: false,
    })
    expect(readSettings({ NO_COLOR: '1' }).noColour).toBe(true)
    expect(readSettings({ TERM: 'dumb' }).noColour).toBe(true)
  })
})

describe('an operator profile', () => {
  let small: SmallCoordinator
  let server: Server
  let home: string
  let folder: string
  let operator: GeneratedKey
  const now = Date.now()
  const dates = { notBefore: new Date(now - 86_400_000), notAfter: new Date(now + 86_400_000) }
  let authority: ReturnType<typeof openAuthority>
  const status = (): Promise<Ran> =>
    runMuster(['status', '--profile', 'ann', '-o', 'json'], { settings: { configHome: home } })

  beforeAll(async () => {
    small = await startSmallCoordinator()
    authority = openAuthority(await createAuthority({ ...dates, bits: 2048 }))
    const serverKey = await generateMachineKey(2048)
    operator = await generateMachineKey(2048)
    const leaf = issueCertificate({
      authority,
      subject: { kind: 'server', id: keyId(serverKey.publicKeyDer) },
      publicKeyDer: serverKey.publicKeyDer,
      ...dates,
      sans: [{ kind: 'dns', value: 'localhost' }],
    })
    server = small.secondServer()
    const credentials = ServerCredentials.createSsl(
      Buffer.from(authority.certificatePem),
      [{ cert_chain: Buffer.from(leaf.chainPem), private_key: Buffer.from(serverKey.privateKeyPem) }],
      true,
    )
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync('localhost:0', credentials, (error, bound) =>
        error ? reject(error) : resolve(bound),
      ),
    )
    home = await mkdtemp(join(tmpdir(), 'muster-profile-'))
    folder = join(home, 'operators/ann')
    await mkdir(folder, { recursive: true })
    const about = { name: 'ann', address: `localhost:${port}`, fleetId: 'none' }
    await writeFile(join(folder, 'operator.json'), JSON.stringify(about))
    await writeFile(join(folder, 'key.pem'), operator.privateKeyPem, { mode: 0o600 })
    await writeFile(join(folder, 'ca.pem'), authority.certificatePem)
    await writeFile(join(folder, 'certificate.pem'), certificate(dates.notAfter))
  })
  afterAll(async () => {
    server.forceShutdown()
    await small[Symbol.asyncDispose]()
    await rm(home, { recursive: true, force: true })
  })

  function certificate(notAfter: Date): string {
    return issueCertificate({
      authority,
      subject: { kind: 'operator', id: keyId(operator.publicKeyDer), name: 'ann' },
      publicKeyDer: operator.publicKeyDer,
      notBefore: dates.notBefore,
      notAfter,
    }).chainPem
  }

  it('reaches the coordinator over mutual TLS', async () => {
    const { code, out } = await status()
    expect(code).toBe(0)
    expect(JSON.parse(out)).toMatchObject({ version: '0.1.0' })
  })

  it('does not talk to a coordinator of another authority', async () => {
    const other = openAuthority(await createAuthority({ ...dates, bits: 2048 }))
    await writeFile(join(folder, 'ca.pem'), other.certificatePem)
    const { code, err } = await status()
    expect(code).toBe(exitCodes.unavailable.code)
    expect(err).toContain(join(folder, 'ca.pem'))
    await writeFile(join(folder, 'ca.pem'), authority.certificatePem)
  })

  it('says how to renew a certificate that has expired', async () => {
    await writeFile(join(folder, 'certificate.pem'), certificate(new Date(now - 1_000)))
    const { code, err } = await status()
    expect(code).toBe(exitCodes.refused.code)
    expect(err).toContain('expired')
    expect(err).toContain('muster operator add ann --public-key')
    await writeFile(join(folder, 'certificate.pem'), certificate(dates.notAfter))
  })

  it('does not use a key that others can read', async () => {
    await chmod(join(folder, 'key.pem'), 0o640)
    expect((await status()).err).toContain('chmod 600')
    await chmod(join(folder, 'key.pem'), 0o600)
    expect((await stat(join(folder, 'key.pem'))).mode & 0o777).toBe(0o600)
  })

  it('names the file that is missing or wrong', async () => {
    expect(
      (await runMuster(['status', '--profile', 'bob'], { settings: { configHome: home } })).err,
    ).toContain('ann')
    expect((await runMuster(['status', '--profile', '../x'], { settings: { configHome: home } })).code).toBe(
      2,
    )
    const text = await readFile(join(folder, 'operator.json'), 'utf8')
    await writeFile(join(folder, 'operator.json'), '{"name":"ann"}')
    expect((await status()).err).toContain('operator.json: address')
    await writeFile(join(folder, 'operator.json'), text)
  })
})

describe('a socket', () => {
  it('that nobody listens on any more is named, with what to do', async () => {
    const home = await mkdtemp(join(tmpdir(), 'muster-socket-'))
    const path = join(home, 'dead.sock')
    // A process that is killed leaves its socket behind.
    const listener = createServer()
    await new Promise<void>(resolve => listener.listen(path, resolve))
    const kept = join(home, 'kept.sock')
    const { link } = await import('node:fs/promises')
    await link(path, kept)
    await new Promise(resolve => listener.close(resolve))
    const { code, err } = await runMuster(['status', '--socket', kept])
    expect(code).toBe(exitCodes.unavailable.code)
    expect(err).toContain('systemctl status')
    await rm(home, { recursive: true, force: true })
  })
})
