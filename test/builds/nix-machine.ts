import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { create } from '@bufbuild/protobuf'
import type { OperationsConfig } from '../../agent/operation/context.ts'
import { NodeUnderTest } from '../../agent/operation/testing/node-under-test.ts'
import { createRealSystem } from '../../agent/system/real-system.ts'
import { SourceBuildSchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { closureDigest } from '../../shared/revision/closure-digest.ts'
import { sampleTarget } from '../../shared/revision/testing/sample-fleet.ts'
import { nixEnvironment } from '../nix/nix-library.ts'

const standin = join(import.meta.dirname, '../standin')
const basic = join(import.meta.dirname, '../fixtures/flakes/basic')
const nixConfig = nixEnvironment.NIX_CONFIG

/** A published nixos-rebuild, in place of the stand-in and of its bash variant. */
const PUBLISHED_REBUILD = process.env.MUSTER_NIXOS_REBUILD

const folders: string[] = []
const systems: string[] = []

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'mb-'))
  folders.push(folder)
  return folder
}

/** Removes what the tests of a file made, also from the store. */
export function removeAll(): void {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
  for (const path of systems.splice(0)) spawnSync('nix-store', ['--delete', path], { env: nixEnvironment })
}

/** Files of the flake: their text, or how it differs. */
export type FlakeChange = Readonly<Record<string, string | ((text: string) => string)>>

/** Systems that nothing else in this store has, so that what is built and fetched here really is. */
export function freshFlake(change: FlakeChange = {}): string {
  const flake = join(temporaryFolder(), 'flake')
  cpSync(basic, flake, { recursive: true })
  const all: FlakeChange = { generation: `${randomBytes(6).toString('hex')}\n`, ...change }
  for (const [name, text] of Object.entries(all)) {
    const path = join(flake, name)
    mkdirSync(dirname(path), { recursive: true })
    const before = existsSync(path) ? readFileSync(path, 'utf8') : ''
    const after = typeof text === 'string' ? text : text(before)
    if (after === before) throw new Error(`${name}: the change changes nothing`)
    writeFileSync(path, after)
  }
  return flake
}

/** Builds a host's system without the agent. */
export function buildSystem(flake: string, host: string): string {
  const args = [
    'build',
    '--no-link',
    '--json',
    `path:${flake}#nixosConfigurations.${host}.config.system.build.toplevel`,
  ]
  const answer = execFileSync('nix', args, {
    env: nixEnvironment,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const path = /"out":"([^"]+)"/.exec(answer)?.[1]
  if (path === undefined) throw new Error(answer)
  systems.push(path)
  return path
}

export function nixStore(...args: readonly string[]): string {
  return execFileSync('nix-store', args, {
    env: nixEnvironment,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  }).trim()
}

export function nix(...args: readonly string[]): string {
  return execFileSync('nix', args, {
    env: nixEnvironment,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  }).trim()
}

export function digestOfClosure(storePath: string): string {
  const paths = nixStore('--query', '--requisites', storePath).split('\n')
  const digest = closureDigest(paths.map(path => ({ path, narHash: nixStore('--query', '--hash', path) })))
  if (digest === undefined) throw new Error('no digest')
  return digest
}

/** A node with a real Nix and a real shell, whose running system, profile and boot entry live below a folder. */
export interface NixMachine {
  readonly node: NodeUnderTest
  readonly root: string
  /** What it ran when it was made. */
  readonly before: string
  readonly state: () => { readonly current: string; readonly profile: string; readonly bootDefault: string }
}

export interface NixMachineOptions {
  /** The older nixos-rebuild, written in bash. */
  readonly bash?: boolean
  readonly config?: Partial<OperationsConfig>
  readonly env?: Readonly<Record<string, string>>
}

let base: string | undefined

export async function nixMachine({
  bash = false,
  config = {},
  env = {},
}: NixMachineOptions = {}): Promise<NixMachine> {
  base ??= buildSystem(basic, 'olaf')
  const root = join(temporaryFolder(), 'root')
  execFileSync(join(standin, 'prepare-root'), [root, base], { env: nixEnvironment, stdio: 'ignore' })
  const program = PUBLISHED_REBUILD ?? join(standin, bash ? 'nixos-rebuild-bash' : 'nixos-rebuild')
  const system = createRealSystem({
    root: '/',
    path: `${toolsFolder(program)}:${process.env.PATH ?? ''}`,
    env: { NIX_CONFIG: nixConfig, HOME: temporaryFolder(), MUSTER_STANDIN_ROOT: root, ...env },
  })
  const node = await NodeUnderTest.start(system, { systemRoot: root, ...config })
  const profiles = join(root, 'nix/var/nix/profiles')
  return {
    node,
    root,
    before: base,
    state: () => ({
      current: readlinkSync(join(root, 'run/current-system')),
      profile: readlinkSync(join(profiles, readlinkSync(join(profiles, 'system')))),
      bootDefault: readFileSync(join(root, 'boot/loader/loader.conf'), 'utf8').trim().replace('default ', ''),
    }),
  }
}

/** All three places name one system. */
export const allAt = (system: string) => ({ current: system, profile: system, bootDefault: system })

/** A folder for PATH in which a program goes by the name nixos-rebuild. */
function toolsFolder(program: string): string {
  const folder = temporaryFolder()
  const entry = join(folder, 'nixos-rebuild')
  writeFileSync(entry, `#!/bin/sh\nexec ${resolve(program)} "$@"\n`)
  chmodSync(entry, 0o755)
  return folder
}

/** The target of the one host there is, which builds the flake's system of some name. */
export function sourceTarget(attribute: string) {
  return sampleTarget({ way: { case: 'source', value: create(SourceBuildSchema, { attribute }) } })
}
