import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { type Binding, type Target, TargetSchema } from '../gen/muster/v1/manifest_pb.ts'
import { isDigest, sha256Hex } from '../ids.ts'
import { readHostPolicy } from '../rollout/rollout-policy.ts'
import { isFleetId } from '../trust/trust-set.ts'
import { checkClosure } from './check-closure.ts'
import { checkNameTemplate } from './expand-name.ts'
import { isHostName } from './host-name.ts'
import { checkKubernetes } from './kubernetes-target.ts'
import { readSafety } from './safety.ts'

export const MAX_TARGET_BYTES = 64 * 1024
const MAX_RULE_CHARS = 4096
const MAX_LABELS = 64

const SYSTEMS = /^[a-z0-9_]+-linux$/
const ROLES: readonly string[] = ['server', 'worker', 'server+worker', 'none']

export type ReadTarget =
  | { readonly kind: 'ok'; readonly target: Target }
  | { readonly kind: 'refused'; readonly reason: string }

/** A target as the manifest names it: by the digest of these bytes. */
export interface EncodedTarget {
  readonly target: Target
  readonly bytes: Uint8Array
  readonly digest: string
}

/** SHA-256 (hex) of a serialised target. */
export function targetDigest(bytes: Uint8Array): string {
  return sha256Hex(bytes)
}

/** Serialises a target, always to the same bytes. Throws with the field's name when it breaks a rule. */
export function encodeTarget(init: Target): EncodedTarget {
  // A map is serialised in the order of its keys in memory, so that order must not depend on who filled it.
  const labels = Object.fromEntries(Object.entries(init.labels).sort(([a], [b]) => (a < b ? -1 : 1)))
  const target = create(TargetSchema, { ...init, labels })
  const problem = checkTarget(target)
  if (problem) throw new Error(problem)
  const bytes = toBinary(TargetSchema, target)
  if (bytes.length > MAX_TARGET_BYTES)
    throw new Error(`${placeOf(target)}: more than ${MAX_TARGET_BYTES} bytes`)
  return { target, bytes, digest: targetDigest(bytes) }
}

/** Decodes and checks a target whose digest was already found in a verified manifest. */
export function readTarget(bytes: Uint8Array): ReadTarget {
  if (bytes.length > MAX_TARGET_BYTES) {
    return {
      kind: 'refused',
      reason: `target: ${bytes.length} bytes, at most ${MAX_TARGET_BYTES} are allowed`,
    }
  }
  let target: Target
  try {
    target = fromBinary(TargetSchema, bytes)
  } catch {
    return { kind: 'refused', reason: 'target: not decodable' }
  }
  const problem = checkTarget(target)
  return problem ? { kind: 'refused', reason: problem } : { kind: 'ok', target }
}

/** Whether an operator's word alone ties the target to a machine. */
export function isLoose(binding: Binding | undefined): boolean {
  return (
    !binding ||
    !(binding.machine || binding.serial || binding.uuid || binding.mac || binding.diskSerial || binding.rule)
  )
}

function checkTarget(target: Target): string | undefined {
  const place = placeOf(target)
  if (!isFleetId(target.fleetId)) return `${place} fleet_id: must be 32 lower-case hex characters`
  if ((target.host === '') === (target.group === '')) return 'target: names a host or a group, one of the two'
  if (!isHostName(target.host || target.group)) {
    return `${place}: the name must be a-z, 0-9 and -, at most 63 characters`
  }
  if (!SYSTEMS.test(target.system)) return `${place} system: must be such as x86_64-linux`
  if (!ROLES.includes(target.role)) return `${place} role: must be ${ROLES.join(', ')}`
  if (target.cluster !== '' && !isHostName(target.cluster)) return `${place} cluster: is no cluster's name`
  if (Object.keys(target.labels).length > MAX_LABELS)
    return `${place} labels: at most ${MAX_LABELS} are allowed`
  return (
    checkBinding(place, target) ??
    checkWay(place, target) ??
    checkKubernetes(place, target) ??
    checkSafety(place, target) ??
    checkRollout(place, target)
  )
}

function checkBinding(place: string, { binding, group }: Target): string | undefined {
  if (group === '') {
    return binding?.rule || binding?.nameTemplate
      ? `${place} binding: rule and name template belong to groups`
      : checkHardware(place, binding)
  }
  if (!binding?.rule) return `${place} binding: a group needs a rule`
  if (binding.rule.length > MAX_RULE_CHARS)
    return `${place} binding rule: longer than ${MAX_RULE_CHARS} characters`
  const problem = checkNameTemplate(binding.nameTemplate)
  return problem ? `${place} binding name template: ${problem}` : checkHardware(place, binding)
}

function checkSafety(place: string, { safety }: Target): string | undefined {
  const reading = readSafety(safety)
  return reading.kind === 'refused' ? `${place} safety: ${reading.reason}` : undefined
}

function checkRollout(place: string, { rollout }: Target): string | undefined {
  const reading = readHostPolicy(rollout)
  return reading.kind === 'refused' ? `${place} rollout ${reading.reason}` : undefined
}

function checkHardware(place: string, binding: Binding | undefined): string | undefined {
  if (!binding) return undefined
  const { machine, serial, uuid, mac, diskSerial } = binding
  if (machine !== '' && !isDigest(machine))
    return `${place} binding machine: must be 64 lower-case hex characters`
  if (mac !== '' && !/^[0-9a-f]{2}(:[0-9a-f]{2}){5,19}$/.test(mac)) {
    return `${place} binding mac: must be lower case and colon separated`
  }
  if (uuid !== uuid.toLowerCase()) return `${place} binding uuid: must be lower case`
  return [serial, uuid, diskSerial].some(text => text.length > 256)
    ? `${place} binding: a part is longer than 256 characters`
    : undefined
}

function checkWay(place: string, { way }: Target): string | undefined {
  switch (way.case) {
    case undefined:
      // A machine with another system: it stands in the fleet, and nothing can be installed on it.
      return undefined
    case 'source':
      // The attribute becomes part of a flake reference, so nothing that could end it or start another may stand in it.
      return /^[A-Za-z0-9_][A-Za-z0-9_'-]{0,127}$/.test(way.value.attribute)
        ? undefined
        : `${place} source attribute: must be the name of one attribute`
    case 'closure':
      return checkClosure(place, way.value)
  }
}

function placeOf(target: Target): string {
  return target.host === '' ? `target of group ${target.group}` : `target of host ${target.host}`
}
