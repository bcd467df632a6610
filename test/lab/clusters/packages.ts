import { cp, mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import {
  IMAGES_IN,
  KUBERNETES_VERSIONS,
  type KubernetesVersion,
  type Packaged,
  packagedIn,
  programsIn,
} from './programs.ts'

const KILLALL = join(import.meta.dirname, '../../standin/k3s-killall.sh')

/** Where a machine has a program as a package would bring it: a folder with `bin/k0s` or `bin/k3s`. */
export const packageIn = (program: Packaged, version: KubernetesVersion): string =>
  `/opt/packages/${program}-${version}`

/** Where each of them looks for images that nobody has to pull. */
const IMAGES_OF: Readonly<Record<Packaged, string>> = {
  k0s: '/var/lib/k0s/images',
  k3s: '/var/lib/rancher/k3s/agent/images',
}
/** The commands that run a node. */
const RUNS: Readonly<Record<Packaged, string>> = { k0s: 'controller | worker', k3s: 'server | agent' }

const script = (program: Packaged, version: KubernetesVersion) => `#!/bin/sh
# ${program} ${version} as a package brings it. One that was built without other programs finds those of its version in PATH, and
# what a machine without a registry needs are images that are there.
PATH=${programsIn(version)}:$PATH:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
case \${1:-} in
${RUNS[program]})
  mkdir -p ${IMAGES_OF[program]}
  cp ${IMAGES_IN}/*.tar ${IMAGES_OF[program]}/
  ;;
esac
exec ${packagedIn(program, version)} "$@"
`

/** Fills a folder with one package a program and version. Returns it. */
export async function writePackages(folder: string): Promise<string> {
  for (const program of ['k0s', 'k3s'] as const) {
    for (const version of KUBERNETES_VERSIONS) {
      const file = join(folder, `${program}-${version}`, 'bin', program)
      await mkdir(dirname(file), { recursive: true })
      await writeFile(file, script(program, version), { mode: 0o755 })
      if (program === 'k3s') await cp(KILLALL, join(dirname(file), 'k3s-killall.sh'))
    }
  }
  return folder
}
