/** What the coordinator knows of itself, as far as something could be wrong with it. */
export interface FleetHealth {
  readonly trustNumber: number
  readonly authorities: readonly {
    readonly pin: string
    readonly notAfter: Date
    readonly issuing: boolean
  }[]
  /** Pins that the newest trust set lists; empty: it leaves that to the machines. */
  readonly caPins: readonly string[]
  readonly revision: { readonly number: number; readonly expires: Date } | undefined
  readonly ambiguous: readonly string[]
  readonly contested: readonly string[]
  readonly pending: number
  readonly maxPending: number
}

const DAY_MS = 86_400_000
/** An authority's end is a matter of weeks of work; a machine that sleeps needs time to hear of the next one. */
const AUTHORITY_WARN_DAYS = 90
const REVISION_WARN_DAYS = 7

/** Authorities that machines trust still and that are gone here: an invariant of the fleet is broken, which is told as such too. */
export function goneAuthorities({ authorities, caPins, trustNumber }: FleetHealth): readonly string[] {
  return caPins
    .filter(pin => !authorities.some(authority => authority.pin === pin))
    .map(
      pin =>
        `trust set ${trustNumber} lists the authority ${pin}, which is gone here: machines trust it still; ` +
        'take it out with `muster trust rotate ca drop`',
    )
}

/** What else is wrong with the coordinator itself, with the cure; empty: nothing. */
export function fleetProblems(health: FleetHealth, now: Date): readonly string[] {
  const problems: string[] = []
  if (health.trustNumber === 0) {
    problems.push('no trust set: give the coordinator the fleet’s with `muster trust set`')
  }
  for (const { pin, notAfter, issuing } of health.authorities) {
    const days = Math.floor((notAfter.getTime() - now.getTime()) / DAY_MS)
    if (issuing && days < AUTHORITY_WARN_DAYS) {
      problems.push(
        `authority ${pin.slice(0, 12)} ends in ${days} days: replace it with \`muster trust rotate\``,
      )
    }
    if (health.caPins.length > 0 && !health.caPins.includes(pin) && issuing) {
      problems.push(
        `trust set ${health.trustNumber} does not list the authority ${pin} that issues: machines will refuse it`,
      )
    }
  }
  if (health.authorities.length > 1) {
    problems.push('the replacement of the authority is not complete: go on with `muster trust rotate`')
  }
  if (health.revision) {
    const { number, expires } = health.revision
    const left = expires.getTime() - now.getTime()
    if (left < REVISION_WARN_DAYS * DAY_MS) {
      const when = `${left <= 0 ? 'expired' : 'expires'} at ${expires.toISOString()}`
      problems.push(`revision ${number} ${when}: sign it anew with \`muster publish --renew\``)
    }
  }
  for (const reason of health.ambiguous) problems.push(`fleet file: ${reason}`)
  for (const host of health.contested) problems.push(`host ${host} is claimed by several machines`)
  if (health.pending >= health.maxPending) {
    problems.push(`${health.pending} machines wait, no further one is taken down: approve or reject some`)
  }
  return problems
}
