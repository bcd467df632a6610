export interface FieldChange {
  readonly field: string
  /** Undefined: was not there. */
  readonly from: string | undefined
  readonly to: string | undefined
}

/** What differs between two sets of fields: first those that were there, then new ones, each in its order. */
export function changedFields(
  from: ReadonlyMap<string, string>,
  to: ReadonlyMap<string, string>,
): readonly FieldChange[] {
  return [...new Set([...from.keys(), ...to.keys()])]
    .filter(field => from.get(field) !== to.get(field))
    .map(field => ({ field, from: from.get(field), to: to.get(field) }))
}
