import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { packageIn } from '../../lab/clusters/packages.ts'
import { IMAGES_IN, type KubernetesVersion, programsIn } from '../../lab/clusters/programs.ts'
import type { ForeignHost } from '../../lab/lab-fleet.ts'
import type { SystemOptions } from '../../lab/systems.ts'

export type LabDistribution = 'k3s' | 'k0s' | 'kubernetes' | 'components'

/** The hosts of the fixtures, in the order of their addresses. */
export const SERVERS = ['n1', 'n2', 'n3'] as const
export const WORKERS = ['n4', 'n5'] as const
export const HOSTS = [...SERVERS, ...WORKERS] as const
export type Host = (typeof HOSTS)[number]

/** Folders of the fixtures, each with the fleet file that it was rendered from. */
export type FixtureName =
  | LabDistribution
  | `${'components' | 'k3s'}-behind-one-address`
  | 'components-static-pods'

const FIXTURES = join(import.meta.dirname, '../../fixtures/clusters')
/** For which version the fixtures were rendered. */
export const RENDERED_VERSION: KubernetesVersion = '1.34.3'
const UNITS = 'systemd/system/'
/** Where the fixtures find the programs: they were rendered for a Kubernetes that lives apart. */
export const PROFILE = '/nix/var/nix/profiles/muster-kubernetes'
export type Life = 'apart' | 'with-system'
/** Where the fixtures name the agent's program. */
const AGENT = '/usr/local/bin/muster-agent'

/** The fleet file that the fixtures were rendered from. */
export const renderedFleetFile = (fixture: FixtureName): string =>
  readFileSync(join(FIXTURES, fixture, 'fleet.toml'), 'utf8')

export const isPackaged = (distribution: LabDistribution): distribution is 'k3s' | 'k0s' =>
  distribution === 'k3s' || distribution === 'k0s'

/** The folder that holds the programs of a version, as a package's `bin` does. */
export const programsOf = (distribution: LabDistribution, version: KubernetesVersion): string =>
  isPackaged(distribution) ? `${packageIn(distribution, version)}/bin` : programsIn(version)

export interface RenderOptions {
  readonly version: KubernetesVersion
  /** Store path of the agent. */
  readonly agent: string
  readonly life: Life
}

/**
 * What the Nix modules render for a host, as the system of a lab machine: units and files as they are, except for the agent's
 * store path and the version. Where Kubernetes lives with the system its programs are named by their own path, as the modules do.
 * Users, folders and kernel settings are made when it is activated, as NixOS would.
 */
export function renderedSystem(
  { distribution, fixture }: { readonly distribution: LabDistribution; readonly fixture: FixtureName },
  host: Host,
  { version, agent, life }: RenderOptions,
): SystemOptions {
  const folder = join(FIXTURES, fixture, host, 'etc')
  const units: Record<string, string> = {}
  const etc: Record<string, string> = {}
  for (const path of filesBelow(folder)) {
    const rendered = readFileSync(join(folder, path), 'utf8').replaceAll(AGENT, `${agent}/bin/muster-agent`)
    const text =
      life === 'apart' ? rendered : rendered.replaceAll(`${PROFILE}/bin`, programsOf(distribution, version))
    if (path.startsWith(UNITS)) units[path.slice(UNITS.length)] = text
    else etc[path] = path === 'muster/cluster.json' ? withLife(withVersion(text, version), life) : text
  }
  // No registry can be reached: the images that pods need are brought with the machine.
  if ('containerd.service' in units) units['containerd.service.d/images.conf'] = IMAGES_DROP_IN
  const apart = life === 'apart' ? { kubernetes: programsOf(distribution, version) } : {}
  return { units, etc, activationScript: ACTIVATION, ...apart }
}

/** NixOS starts these at a boot by links of its own. */
const AT_BOOT = ['muster-cluster-secrets.service', 'muster-kubernetes.service']
const KUBERNETES_FILES = ['muster/', 'k0s/', 'cni/']

/** Which files of a host's fixture the package of Kubernetes brings where the system is somebody else's, below /etc. */
export function kubernetesFiles(fixture: FixtureName, host: Host): readonly string[] {
  const folder = join(FIXTURES, fixture, host, 'etc')
  // The fixtures' own files; what their modules write there is compared with fresh ones.
  const { units } = JSON.parse(readFileSync(join(folder, 'muster/cluster.json'), 'utf8')) as {
    readonly units: readonly string[]
  }
  const wanted = [...AT_BOOT, ...units].map(name => `${UNITS}${name}`)
  return filesBelow(folder).filter(
    path => wanted.includes(path) || KUBERNETES_FILES.some(prefix => path.startsWith(prefix)),
  )
}

/**
 * What the Nix modules render for a host whose system is somebody else's: only the package of Kubernetes, with its units and
 * files. `own`: what its owner has to see to, as on NixOS the system does.
 */
export function renderedForeign(
  { distribution, fixture }: { readonly distribution: LabDistribution; readonly fixture: FixtureName },
  host: Host,
  options: RenderOptions,
): { readonly system: SystemOptions; readonly own: ForeignHost } {
  const { units = {}, etc = {}, kubernetes } = renderedSystem({ distribution, fixture }, host, options)
  const all: Readonly<Record<string, string | null>> = {
    ...etc,
    ...Object.fromEntries(Object.entries(units).map(([name, text]) => [`${UNITS}${name}`, text])),
  }
  const brought = kubernetesFiles(fixture, host)
  const textOf = (path: string): string => {
    const text = all[path]
    if (typeof text !== 'string') throw new Error(`${fixture}, ${host}: no text of ${path}`)
    return text
  }
  const ofOwner = Object.keys(all).filter(path => !brought.includes(path) && !path.startsWith(UNITS))
  const runtime = 'containerd.service' in units ? ['containerd.service'] : []
  return {
    system: {
      ...(kubernetes === undefined ? {} : { kubernetes }),
      kubernetesEtc: Object.fromEntries(brought.map(path => [path, textOf(path)])),
    },
    own: {
      services: runtime,
      files: {
        ...Object.fromEntries(ofOwner.map(path => [`etc/${path}`, textOf(path)])),
        ...(runtime.length > 0 && { 'etc/systemd/system/containerd.service.d/images.conf': IMAGES_DROP_IN }),
      },
    },
  }
}

const IMAGES_DROP_IN = `[Service]
${['pause', 'web'].map(name => `ExecStartPost=/usr/bin/ctr -n k8s.io images import ${IMAGES_IN}/${name}.tar`).join('\n')}
`

const ACTIVATION = `systemd-sysusers
systemd-tmpfiles --create
sysctl --system >/dev/null || true`

function withVersion(text: string, version: KubernetesVersion): string {
  const changed = text.replace(`"version":"${RENDERED_VERSION}"`, `"version":"${version}"`)
  if (!changed.includes(`"version":"${version}"`)) throw new Error('cluster.json names no version')
  return changed
}

function withLife(text: string, life: Life): string {
  if (life === 'apart') return text
  return text
    .replace('"life":"apart"', '"life":"with-system"')
    .replace(`"profile":"${PROFILE}"`, '"profile":null')
}

function filesBelow(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => relative(folder, join(entry.parentPath, entry.name)))
    .toSorted()
}
