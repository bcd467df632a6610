import { isHostName } from './host-name.ts'

/** What a machine read of its own hardware. Undefined: could not be read, which is never the same as empty. */
export interface Hardware {
  /** SHA-256 of the machine's public key. */
  readonly machineId: string
  readonly serial?: string | undefined
  readonly uuid?: string | undefined
  /** Permanent addresses of the interfaces that have hardware. */
  readonly macs?: readonly string[] | undefined
  readonly diskSerials?: readonly string[] | undefined
}

export type ExpandedName =
  | { readonly kind: 'ok'; readonly name: string }
  /** The machine could not read a part that the template needs. */
  | { readonly kind: 'unreadable'; readonly reason: string }
  | { readonly kind: 'refused'; readonly reason: string }

/** A machine id is longer than a host name may be; its first digits are enough to tell the machines of a group apart. */
const MACHINE_DIGITS = 12

const PLACEHOLDERS: Readonly<Record<string, (hardware: Hardware) => string | undefined>> = {
  serial: ({ serial }) => serial,
  uuid: ({ uuid }) => uuid,
  // The lowest address, so that the order in which interfaces appear does not change the name.
  mac: ({ macs }) => macs?.map(mac => mac.toLowerCase().replaceAll(':', '-')).sort()[0],
  machine: ({ machineId }) => machineId.slice(0, MACHINE_DIGITS),
}

/**
 * The name that a group's template gives to a machine: `{serial}`, `{uuid}`, `{mac}` (the lowest, with dashes) and
 * `{machine}` (the first 12 digits) are replaced, lower-cased. A result that is no host name is refused, not repaired:
 * two machines must not become one name by leaving characters out.
 */
export function expandName(template: string, hardware: Hardware): ExpandedName {
  const problem = checkNameTemplate(template)
  if (problem) return { kind: 'refused', reason: `name template: ${problem}` }
  const missing: string[] = []
  const name = template.replace(/\{([a-z]+)\}/g, (_, placeholder: string) => {
    const value = PLACEHOLDERS[placeholder]?.(hardware)
    if (!value) missing.push(placeholder)
    return value?.toLowerCase() ?? ''
  })
  if (missing.length > 0) {
    return {
      kind: 'unreadable',
      reason: `name template needs ${missing.join(', ')}, which this machine cannot read`,
    }
  }
  if (!isHostName(name)) {
    return {
      kind: 'refused',
      reason: 'name template: the result is no host name ([a-z0-9-], at most 63 characters)',
    }
  }
  return { kind: 'ok', name }
}

/** What is wrong with a template, or undefined. It must tell machines apart, so it needs a placeholder. */
export function checkNameTemplate(template: string): string | undefined {
  if (template.length > 256) return 'longer than 256 characters'
  const known = Object.keys(PLACEHOLDERS)
    .map(placeholder => `{${placeholder}}`)
    .join(', ')
  const found = [...template.matchAll(/\{([^{}]*)\}/g)].map(([, placeholder]) => placeholder ?? '')
  if (found.some(placeholder => !Object.hasOwn(PLACEHOLDERS, placeholder))) {
    return `the placeholder is not known; known are ${known}`
  }
  if (found.length === 0) return `every machine of the group would get the same name; put in one of ${known}`
  return isHostName(template.replace(/\{[a-z]+\}/g, '0'))
    ? undefined
    : 'around the placeholders use lower-case letters, digits and dashes, at most 63 together'
}
