import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, cp, mkdir, readdir, stat, symlink } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { ensureCached } from '../root.ts'
import { must } from '../run.ts'
import { whyNoLab } from '../why-not.ts'

/** Versions of Kubernetes that lab machines can run, the older one first. */
export const KUBERNETES_VERSIONS = ['1.34.3', '1.35.4'] as const
export type KubernetesVersion = (typeof KUBERNETES_VERSIONS)[number]
const ETCD_VERSION = '3.6.7'

const COMPONENTS = [
  ...['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kube-proxy'],
  ...['kubelet', 'kubectl', 'kubeadm'],
]
export const IMAGES = ['pause.tar', 'web.tar'] as const

/** Where machines have the programs: one folder a version. */
export const programsIn = (version: KubernetesVersion): string => `/opt/kubernetes/${version}`
/** Where machines have the image archives. */
export const IMAGES_IN = '/opt/kubernetes/images'

const VARIABLE = 'MUSTER_LAB_PROGRAMS'
const WANTED = [
  ...KUBERNETES_VERSIONS.map(version => `programs/kube-${version}.xz`),
  `programs/etcd-${ETCD_VERSION}.xz`,
  ...IMAGES.map(image => `images/${image}`),
]

/** Why no Kubernetes can run in lab machines here; undefined when it can. */
export function whyNoClusters(): string | undefined {
  const lab = whyNoLab()
  if (lab !== undefined) return lab
  const given = process.env[VARIABLE]
  if (given === undefined || given === '')
    return `no Kubernetes programs: ${VARIABLE} names no folder with ${WANTED.join(', ')}`
  const missing = WANTED.filter(file => !existsSync(join(given, file)))
  return missing.length === 0 ? undefined : `missing in ${VARIABLE}=${given}: ${missing.join(', ')}`
}

/** The programs of every version, unpacked once into the cache under the names that units look for. */
export async function ensurePrograms(): Promise<string> {
  const why = whyNoClusters()
  if (why !== undefined) throw new Error(why)
  const from = resolve(process.env[VARIABLE] ?? '')
  const sizes = await Promise.all(WANTED.map(async file => `${file} ${(await stat(join(from, file))).size}`))
  const key = createHash('sha256').update(sizes.join('\n')).digest('hex').slice(0, 12)
  return await ensureCached(`kubernetes-programs-${key}`, async folder => {
    for (const version of KUBERNETES_VERSIONS) {
      const into = join(folder, version)
      await mkdir(into)
      await unpack(join(from, `programs/kube-${version}.xz`), join(into, `kube-${version}`))
      await unpack(join(from, `programs/etcd-${ETCD_VERSION}.xz`), join(into, 'etcd'))
      for (const name of COMPONENTS) await symlink(`kube-${version}`, join(into, name))
      for (const name of ['etcdctl', 'etcdutl']) await symlink('etcd', join(into, name))
    }
    await mkdir(join(folder, 'images'))
    for (const image of IMAGES) await cp(join(from, 'images', image), join(folder, 'images', image))
  })
}

async function unpack(archive: string, file: string): Promise<void> {
  await must('sh', ['-c', 'xz -dc "$1" >"$2"', 'sh', archive, file])
  await chmod(file, 0o755)
}

const STANDINS = join(import.meta.dirname, '../../standin')
const REAL = { k0s: 'MUSTER_K0S', k3s: 'MUSTER_K3S' } as const
export type Packaged = keyof typeof REAL

/** Whether tests meet the real program, given by its variable, or the stand-in of this tree. */
export const isReal = (program: Packaged): boolean => (process.env[REAL[program]] ?? '') !== ''

/** Where machines have such a program: one file a version, `k0s-1.34.3`. */
export const packagedIn = (program: Packaged, version: KubernetesVersion): string =>
  `/opt/${program}/${program}-${version}`

/**
 * Makes `folder` hold one program a version: links to those that the variable names (MUSTER_K0S, MUSTER_K3S), or the
 * stand-in of this tree under each name. Returns the folder to mount.
 */
export async function packagedPrograms(program: Packaged, folder: string): Promise<string> {
  if (isReal(program)) {
    const given = resolve(process.env[REAL[program]] ?? '')
    const there = await readdir(given)
    const missing = KUBERNETES_VERSIONS.map(version => `${program}-${version}`).filter(
      name => !there.includes(name),
    )
    if (missing.length > 0) throw new Error(`${REAL[program]}=${given} has no ${missing.join(', ')}`)
    return given
  }
  await mkdir(folder, { recursive: true })
  await cp(join(STANDINS, 'clusters'), join(folder, 'clusters'), {
    recursive: true,
    filter: path => !path.includes('__pycache__'),
  })
  for (const version of KUBERNETES_VERSIONS)
    await cp(join(STANDINS, program), join(folder, `${program}-${version}`))
  return folder
}
