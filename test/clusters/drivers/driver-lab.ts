import { cp, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Failure } from '../../../agent/drivers/result.ts'
import {
  CONTROL_PLANE_ARCHIVE,
  CONTROL_PLANE_IN,
  ensureControlPlaneImage,
} from '../../lab/clusters/control-plane-image.ts'
import { prepareClusterLab } from '../../lab/clusters/machines.ts'
import { packageIn } from '../../lab/clusters/packages.ts'
import { IMAGES_IN, type KubernetesVersion, programsIn } from '../../lab/clusters/programs.ts'
import { type Lab, startLab } from '../../lab/lab.ts'
import type { LabMachine } from '../../lab/machine.ts'
import { must } from '../../lab/run.ts'
import { bundleProgram } from '../../support/bundle-program.ts'

/** The hosts of the fixtures, in the order of their addresses: three servers, two workers. */
export const HOSTS = ['n1', 'n2', 'n3', 'n4', 'n5'] as const
export type Host = (typeof HOSTS)[number]
export type LabDistribution = 'k3s' | 'k0s' | 'components'
/** Folders of the fixtures. */
type Fixture = LabDistribution | 'components-static-pods'

const FIXTURES = join(import.meta.dirname, '../../fixtures/clusters')
const PROFILE = '/nix/var/nix/profiles/muster-kubernetes'
const DRIVER = '/opt/driver/main.mjs'
const NODE = '/opt/driver-node'

export type Answer<T> = { readonly kind: 'done'; readonly value: T } | Failure

/** Lab machines with what the Nix modules render for them, on each of which the agent's drivers can be called. */
export class DriverLab implements AsyncDisposable {
  readonly lab: Lab
  readonly distribution: LabDistribution

  constructor(lab: Lab, distribution: LabDistribution) {
    this.lab = lab
    this.distribution = distribution
  }

  machine(host: Host): LabMachine {
    const found = this.lab.machines.find(({ name }) => name === host)
    if (!found) throw new Error(`no machine ${host}`)
    return found
  }

  address(host: Host): string {
    return this.machine(host).address
  }

  /** Calls an act of a machine's driver; answers its result as it is. */
  async drive(host: Host, act: string, ...args: readonly unknown[]): Promise<unknown> {
    const { code, stdout, stderr } = await this.machine(host).exec([NODE, DRIVER, act], {
      input: JSON.stringify(args),
      timeoutMs: 6 * 60_000,
    })
    if (code !== 0) throw new Error(`driver of ${host}, ${act}: ${stderr.slice(-2_000)}`)
    return JSON.parse(stdout)
  }

  async answer<T>(host: Host, act: string, ...args: readonly unknown[]): Promise<Answer<T>> {
    // A cast: the shape is that of the driver's own type, which wrote it.
    return (await this.drive(host, act, ...args)) as Answer<T>
  }

  /** The value of an act that must succeed. */
  async done<T>(host: Host, act: string, ...args: readonly unknown[]): Promise<T> {
    const answer = await this.answer<T>(host, act, ...args)
    if (answer.kind === 'done') return answer.value
    const units = await this.machine(host).journal(undefined, '--lines=60', '--output=short')
    throw new Error(`${act} on ${host}: ${answer.class}: ${answer.reason}\n${units.slice(-6_000)}`)
  }

  /** kubectl of a server, as its administrator. */
  async kubectl(host: Host, ...args: readonly string[]): Promise<string> {
    const words =
      this.distribution === 'components'
        ? ['kubectl', '--kubeconfig=/var/lib/kubernetes/admin.conf']
        : [this.distribution, 'kubectl']
    const [program = '', ...before] = words
    return await this.machine(host).ok([`${PROFILE}/bin/${program}`, ...before, ...args], {
      timeoutMs: 60_000,
    })
  }

  async apply(host: Host, object: object): Promise<void> {
    await this.machine(host).writeFile('/root/object.json', JSON.stringify(object))
    await this.kubectl(host, 'apply', '-f', '/root/object.json')
  }

  async useVersion(host: Host, version: KubernetesVersion): Promise<void> {
    const machine = this.machine(host)
    await machine.ok(['mkdir', '-p', PROFILE])
    const programs =
      this.distribution === 'components'
        ? programsIn(version)
        : `${packageIn(this.distribution, version)}/bin`
    await machine.ok(['ln', '-sfn', programs, `${PROFILE}/bin`])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab[Symbol.asyncDispose]()
  }
}

export async function startDriverLab(
  distribution: LabDistribution,
  hosts: readonly Host[],
  version: KubernetesVersion,
  fixture: Fixture = distribution,
): Promise<DriverLab> {
  const lab = await startLab()
  try {
    const folder = join(lab.dir, 'driver')
    await mkdir(folder)
    await bundleProgram(join(import.meta.dirname, 'driver-main.ts'), join(folder, 'main.mjs'))
    await cp(process.execPath, join(lab.dir, 'node'))
    const clusterLab = await prepareClusterLab(lab)
    const images =
      fixture === 'components-static-pods'
        ? [`${await ensureControlPlaneImage(version)}:${CONTROL_PLANE_IN}`]
        : []
    const made = new DriverLab(lab, distribution)
    const last = Math.max(...hosts.map(host => HOSTS.indexOf(host)))
    // The fixtures say each host's address, which a lab gives out in order: who is not wanted is there and off.
    for (const [index, host] of HOSTS.slice(0, last + 1).entries()) {
      const options = clusterLab.machine(index, HOSTS)
      const own = [`${folder}:/opt/driver`, `${join(lab.dir, 'node')}:${NODE}`]
      const binds = [...(options.binds ?? []), ...own, ...images]
      const wanted = hosts.includes(host)
      await lab.startMachine(host, { ...options, binds, start: wanted })
      if (wanted) await install(made, host, version, fixture)
    }
    return made
  } catch (error) {
    await lab[Symbol.asyncDispose]()
    throw error
  }
}

/** Puts onto a machine what its system would have: the rendered files, users, images and programs of a version. */
async function install(
  made: DriverLab,
  host: Host,
  version: KubernetesVersion,
  fixture: Fixture,
): Promise<void> {
  const machine = made.machine(host)
  const folder = join(FIXTURES, fixture, host)
  const { stdout } = await must('sh', ['-c', 'tar -C "$1" -cf - . | base64 -w0', 'sh', folder])
  await machine.exec(['sh', '-c', 'base64 -d | tar -C / --no-same-owner -xf -'], { input: stdout })
  await made.useVersion(host, version)
  await machine.exec(['systemd-sysusers'])
  await machine.ok(['systemctl', 'daemon-reload'])
  if (made.distribution === 'components') {
    await machine.ok(['systemctl', 'restart', 'containerd'])
    const archives = ['pause', 'web'].map(image => `${IMAGES_IN}/${image}.tar`)
    if (fixture === 'components-static-pods' && host === 'n1') archives.push(CONTROL_PLANE_ARCHIVE)
    for (const archive of archives) {
      await machine.ok(['ctr', '-n', 'k8s.io', 'images', 'import', archive], { timeoutMs: 180_000 })
    }
  }
}
