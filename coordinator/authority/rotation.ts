/**
 * Which authorities a coordinator trusts, oldest first, and which of them issues.
 *
 * The order that replaces an authority without locking a machine out:
 * 1. `add`: the new authority is trusted on the fleet listener, issues nothing, and no machine hears of it.
 * 2. A trust set that lists both pins goes to the machines, signed by the operator. Wait until all have it.
 * 3. `switchTo`: certificates of machines and operators come from the new one. The listeners go on showing a leaf of the
 *    old one, so a machine that knows only the old pin (one that slept through step 2, or boots from older media) still
 *    gets in, learns the new trust set over that connection, and takes its new certificate.
 * 4. Wait until every certificate in use is from the new authority.
 * 5. `drop`: the old one is trusted no more, and the listeners show a leaf of the new one, which by now every machine
 *    accepts. Connections that were let in with a certificate of the old one are the caller's to end.
 * 6. A trust set that lists the new pin alone.
 *
 * The listeners show the oldest authority throughout: of all that are trusted, its pin is known to the most machines.
 * Tokens and media made before step 5 must carry this shown pin; made after it, the new one, which is then the shown one.
 */
export interface Rotation {
  /** Pins, oldest first. 1 to MAX_AUTHORITIES, no pin twice. */
  readonly trusted: readonly string[]
  /** One of them. */
  readonly issuing: string
}

export type RotationStep =
  | { readonly ok: true; readonly rotation: Rotation }
  | { readonly ok: false; readonly reason: string }

export const MAX_AUTHORITIES = 4

const refuse = (reason: string): RotationStep => ({ ok: false, reason })

/** The authority whose certificate the listeners show. */
export function shownPin(rotation: Rotation): string {
  return rotation.trusted[0] ?? rotation.issuing
}

export function addPin(rotation: Rotation, pin: string): RotationStep {
  if (rotation.trusted.includes(pin)) return refuse(`the authority ${pin} is trusted already`)
  if (rotation.trusted.length >= MAX_AUTHORITIES) {
    return refuse(`${MAX_AUTHORITIES} authorities are trusted already; drop one first`)
  }
  return { ok: true, rotation: { ...rotation, trusted: [...rotation.trusted, pin] } }
}

export function switchToPin(rotation: Rotation, pin: string): RotationStep {
  if (!rotation.trusted.includes(pin)) return refuse(`there is no authority ${pin}; add one first`)
  return { ok: true, rotation: { ...rotation, issuing: pin } }
}

export function dropPin(rotation: Rotation, pin: string): RotationStep {
  if (!rotation.trusted.includes(pin)) return refuse(`there is no authority ${pin}`)
  if (rotation.issuing === pin)
    return refuse(`the authority ${pin} issues certificates; switch to another one first`)
  return { ok: true, rotation: { ...rotation, trusted: rotation.trusted.filter(other => other !== pin) } }
}

/** What is wrong with a state that was read back, if anything. */
export function rotationFault({ trusted, issuing }: Rotation): string | undefined {
  if (trusted.length < 1 || trusted.length > MAX_AUTHORITIES) {
    return `holds ${trusted.length} authorities, wanted 1 to ${MAX_AUTHORITIES}`
  }
  if (new Set(trusted).size !== trusted.length) return 'holds one authority twice'
  return trusted.includes(issuing) ? undefined : `says that ${issuing} issues, which it does not hold`
}
