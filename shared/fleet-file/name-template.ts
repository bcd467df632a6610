import { nameProblem } from './text-types.ts'

/** The facts that a group's name template may put into a host name. */
export const templatePlaceholders = ['serial', 'uuid', 'mac', 'machine'] as const

export type TemplateFacts = { readonly [P in (typeof templatePlaceholders)[number]]?: string | undefined }

export type ExpandedName = { readonly name: string } | { readonly problem: string }

/**
 * The host name that a template such as "edge-{serial}" gives to a machine. Facts are a stranger's claims: whatever
 * they hold, the result is a valid host name or a refusal. Other characters become dashes, of the machine's id the first
 * twelve digits are taken. Two machines may arrive at one name; who binds them must look.
 */
export function expandNameTemplate(template: string, facts: TemplateFacts): ExpandedName {
  const wrong = templateProblem(template)
  if (wrong !== undefined) return { problem: wrong }
  let missing: string | undefined
  const name = template.replace(/\{([^{}]*)\}/g, (_, placeholder: string) => {
    const known = templatePlaceholders.find(candidate => candidate === placeholder)
    const value = known === undefined ? undefined : plain(facts[known], known === 'machine')
    if (value === undefined) missing ??= placeholder
    return value ?? ''
  })
  if (missing !== undefined) return { problem: `the machine reports no ${missing}, which the name needs` }
  const invalid = nameProblem(name)
  return invalid === undefined
    ? { name }
    : { problem: `the name "${name.slice(0, 100)}" is not valid: ${invalid}` }
}

function plain(fact: string | undefined, cut: boolean): string | undefined {
  if (fact === undefined || fact.length > 256) return undefined
  const dashed = fact
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')
  return dashed === '' ? undefined : cut ? dashed.slice(0, 12) : dashed
}

/** Why a text is no name template; undefined when it is one. */
export function templateProblem(template: string): string | undefined {
  const known = templatePlaceholders.map(placeholder => `{${placeholder}}`).join(', ')
  const found = [...template.matchAll(/\{([^{}]*)\}/g)].map(match => match[1] ?? '')
  const strange = found.find(
    placeholder => !templatePlaceholders.some(candidate => candidate === placeholder),
  )
  if (strange !== undefined) return `the placeholder is not known; known are ${known}`
  if (found.length === 0) return `every machine of the group would get the same name; put in one of ${known}`
  const filled = template.replace(/\{[a-z]+\}/g, '0')
  return nameProblem(filled) === undefined
    ? undefined
    : 'around the placeholders use lower-case letters, digits and dashes, at most 63 together'
}
