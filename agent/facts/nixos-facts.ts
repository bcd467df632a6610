import { basename } from 'node:path'
import type { MessageInitShape } from '@bufbuild/protobuf'
import type { NixosFactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { readLinkPart, readTextPart } from '../plan/part.ts'
import type { SystemParts } from '../plan/reboot-reasons.ts'
import { cleanText } from './clean-values.ts'
import { isObject, parseJson, stringAt } from './parse-json.ts'
import { rebootReasons } from './reboot-reasons.ts'
import type { Source } from './source.ts'

type Nixos = MessageInitShape<typeof NixosFactsSchema>

const BOOTED = '/run/booted-system'
const CURRENT = '/run/current-system'
const PROFILE = '/nix/var/nix/profiles/system'

/** What NixOS runs and would boot. On other systems only Nix's own version. */
export async function collectNixos(source: Source): Promise<Nixos | undefined> {
  const nixVersion = await readNixVersion(source)
  const current = await storeLink(source, CURRENT)
  if (current === undefined) return nixVersion === undefined ? undefined : { nixVersion }
  const booted = await storeLink(source, BOOTED)
  const { generation, path: profile } = await readProfile(source)
  return {
    ...(await readNixosVersion(source)),
    nixVersion,
    booted,
    current,
    profile,
    generation,
    rebootReasons: await reasons(source, booted, current, profile),
  }
}

async function reasons(
  source: Source,
  booted: string | undefined,
  current: string,
  profile: string | undefined,
): Promise<string[]> {
  if (booted === undefined || profile === undefined) {
    source.warn(
      `${booted === undefined ? BOOTED : PROFILE}: no store path; whether a reboot is due is unknown`,
    )
    return []
  }
  const answer = rebootReasons({
    booted: await readParts(source, booted),
    next: await readParts(source, profile),
    current,
  })
  for (const part of answer.unknown)
    source.warn(`${profile}: ${part} cannot be compared with what was booted`)
  return [...answer.reasons]
}

async function readParts(source: Source, path: string): Promise<SystemParts> {
  return {
    path,
    kernel: await readLinkPart(source.system, `${path}/kernel`),
    initrd: await readLinkPart(source.system, `${path}/initrd`),
    modules: await readLinkPart(source.system, `${path}/kernel-modules`),
    params: await readTextPart(source.system, `${path}/kernel-params`),
    initInterface: await readTextPart(source.system, `${path}/init-interface-version`),
    systemd: await readLinkPart(source.system, `${path}/systemd`),
    inhibitors: await readTextPart(source.system, `${path}/switch-inhibitors`),
  }
}

/** The profile is a link to `system-N-link` beside it, and that a link into the store. */
async function readProfile(source: Source): Promise<{ generation?: bigint; path?: string }> {
  const link = await source.link(PROFILE)
  const number = /^system-(\d{1,9})-link$/.exec(basename(link ?? ''))?.[1]
  if (number === undefined) return {}
  const path = await storeLink(source, `/nix/var/nix/profiles/system-${number}-link`)
  return { generation: BigInt(number), ...(path === undefined ? {} : { path }) }
}

async function storeLink(source: Source, path: string): Promise<string | undefined> {
  const target = await source.link(path)
  if (target === undefined) return undefined
  // Nearly always below /nix/store; a store may lie elsewhere, and that of a simulated machine does.
  if (/^\/[\w./+-]{1,200}\/[0-9a-z]{32}-[0-9A-Za-z+._?=-]{1,200}$/.test(target)) return target
  source.warn(`${path}: leads to no store path`)
  return undefined
}

/** Told by the system that runs: only a user's PATH leads to its command, no unit's does. */
async function readNixosVersion(source: Source): Promise<Nixos> {
  const printed = await source.output(`${CURRENT}/sw/bin/nixos-version`, ['--json'])
  const json = printed === undefined ? undefined : parseJson(source, 'nixos-version', printed)
  if (!isObject(json)) return {}
  return {
    version: cleanText(stringAt(json, 'nixosVersion') ?? '', 128),
    configurationRevision: cleanText(stringAt(json, 'configurationRevision') ?? '', 128),
  }
}

/** "nix (Nix) 2.24.9": the last word. */
async function readNixVersion(source: Source): Promise<string | undefined> {
  const printed = await source.output('nix', ['--version'])
  if (printed === undefined) return undefined
  const version = /^nix \(.*\) (\d+\.\S{1,63})$/.exec(printed.trim())?.[1]
  if (version === undefined) source.warn('nix: tells no version')
  return version
}
