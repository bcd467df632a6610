import { toBinary } from '@bufbuild/protobuf'
import { SafetySchema } from '../gen/muster/v1/manifest_pb.ts'
import { LEAST_CONFIRM_MARGIN_MS, MAX_SAFETY_BYTES, SAFETY_DEFAULTS } from '../revision/safety-bounds.ts'
import { groupLayers, hostLayers, isOwn, type Layers, pick } from './layers.ts'
import { type Place, quote, type Report } from './problem.ts'
import type { GroupTable, HostTable, Sections } from './read-sections.ts'
import { resolveSafety } from './resolve-safety.ts'
import { safetyMessage } from './safety-message.ts'

/** Checks that what is said of one host's safety fits together, wherever its parts stand. */
export function checkSafety(sections: Sections, report: Report): void {
  // What stands in [defaults] would be wrong for each host anew.
  const told = new Set<string>()
  const once: Report = (at: Place, path, message, severity) => {
    const place = `${at.line}:${at.column}:${message}`
    if (told.has(place)) return
    told.add(place)
    report(at, path, message, severity)
  }
  for (const host of sections.hosts.values()) checkOne(sections, host, hostLayers(sections, host), once)
  for (const group of sections.groups.values()) {
    if (group.table.values.admit) checkOne(sections, group, groupLayers(sections, group), once)
  }
}

function checkOne(sections: Sections, of: HostTable | GroupTable, layers: Layers, report: Report): void {
  checkTimes(layers, report)
  checkTolerated(sections, layers, report)
  if (pick(layers, 'os').found !== undefined) {
    checkExternal(layers, report)
    return
  }
  const bytes = toBinary(SafetySchema, safetyMessage(resolveSafety(sections, layers))).length
  if (bytes > MAX_SAFETY_BYTES) {
    const text = `its gates and tolerated units take ${bytes} bytes together, at most ${MAX_SAFETY_BYTES} are allowed`
    report(of.nameAt, [...of.table.path, 'gates'], `${text}; name fewer, or shorten what they say`)
  }
}

function checkTimes(layers: Layers, report: Report): void {
  const soak = pick(layers, 'soak')
  const confirm = pick(layers, 'confirm-within')
  const at = confirm.found ?? soak.found
  if (!soak.certain || !confirm.certain || at === undefined) return
  const soakMs = soak.found?.value ?? SAFETY_DEFAULTS.soakMs
  const confirmMs = confirm.found?.value ?? SAFETY_DEFAULTS.confirmWithinMs
  if (confirmMs >= soakMs + LEAST_CONFIRM_MARGIN_MS) return
  const seconds = (ms: number) => `${ms / 1_000} s`
  const text = `confirm-within (${seconds(confirmMs)}) must exceed soak (${seconds(soakMs)}) by ${seconds(LEAST_CONFIRM_MARGIN_MS)}`
  report(at.at, at.path, `${text}; write a longer confirm-within or a shorter soak`)
}

function checkTolerated({ gates }: Sections, layers: Layers, report: Report): void {
  const tolerated = pick(layers, 'tolerated-units').found
  const names = pick(layers, 'gates').found
  if (tolerated === undefined || names === undefined) return
  for (const name of names.value) {
    const both = gates.get(name)?.table.values.units?.value.find(unit => tolerated.value.includes(unit))
    if (both === undefined) continue
    const text = `${quote(both)} may fail, and gate ${quote(name)} asks for it; take it out of one of the two`
    report(tolerated.at, tolerated.path, text)
  }
}

const settings = ['gates', 'soak', 'confirm-within', 'confirm', 'reboot', 'trial', 'tolerated-units'] as const

/** What stands in the table of the machine itself is hardly meant for nothing. */
function checkExternal(layers: Layers, report: Report): void {
  for (const key of settings) {
    const { found } = pick(layers, key)
    if (found === undefined || !isOwn(layers, found)) continue
    report(found.at, found.path, 'has no effect with os = "external": nothing is changed there', 'warning')
  }
}
