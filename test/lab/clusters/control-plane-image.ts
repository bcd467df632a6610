import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { copyFile, link, mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { ensureCached } from '../root.ts'
import { must } from '../run.ts'
import { ensurePrograms, type KubernetesVersion } from './programs.ts'

/** Where the static pods of the fixtures look for their images. */
const REPOSITORY = 'images.lab/kubernetes'
const PARTS = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const
const ARCHIVE = 'control-plane.tar'

/** A folder with an archive of the control plane's images, made once of the programs themselves: one layer under three names. */
export async function ensureControlPlaneImage(version: KubernetesVersion): Promise<string> {
  const programs = await ensurePrograms()
  const name = `control-plane-${version}-${basename(programs).split('-').at(-1)}`
  return await ensureCached(name, async folder => {
    const bin = join(folder, 'layer/usr/local/bin')
    await mkdir(bin, { recursive: true })
    const program = `kube-${version}`
    const from = join(programs, version, program)
    await link(from, join(bin, program)).catch(async () => await copyFile(from, join(bin, program)))
    for (const part of PARTS) await symlink(program, join(bin, part))
    const layer = join(folder, 'layer.tar')
    await must('tar', ['-C', join(folder, 'layer'), '-cf', layer, '.'])
    const hash = createHash('sha256')
    await pipeline(createReadStream(layer), hash)
    const config = {
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      config: { Env: ['PATH=/usr/local/bin'] },
      rootfs: { type: 'layers', diff_ids: [`sha256:${hash.digest('hex')}`] },
    }
    await writeFile(join(folder, 'config.json'), JSON.stringify(config))
    const tags = PARTS.map(part => `${REPOSITORY}/${part}:v${version}`)
    const manifest = [{ Config: 'config.json', RepoTags: tags, Layers: ['layer.tar'] }]
    await writeFile(join(folder, 'manifest.json'), JSON.stringify(manifest))
    const parts = ['manifest.json', 'config.json', 'layer.tar']
    await must('tar', ['-C', folder, '-cf', join(folder, ARCHIVE), ...parts])
    for (const made of ['layer', ...parts]) await rm(join(folder, made), { recursive: true })
  })
}

/** Where a machine finds it that has the folder under `/opt/control-plane`. */
export const CONTROL_PLANE_IN = '/opt/control-plane'
export const CONTROL_PLANE_ARCHIVE = `${CONTROL_PLANE_IN}/${ARCHIVE}`
