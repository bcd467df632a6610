import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import type { GetFleetRequest, GetFleetResponseSchema } from '../../shared/gen/muster/v1/fleet_pb.ts'
import { VERSION } from '../../shared/version.ts'
import type { Authorities } from '../authority/authorities.ts'
import type { DescribeDeps } from '../machines/describe-machines.ts'
import { STATES } from '../machines/entry.ts'
import { fleetProblems, goneAuthorities } from '../machines/fleet-problems.ts'
import type { FleetTrust } from '../machines/fleet-trust.ts'
import { readFleetHealth } from '../machines/read-fleet-health.ts'
import type { Sessions } from '../sessions/sessions.ts'
import type { Caller } from './caller.ts'

export interface GetFleetDeps extends Pick<DescribeDeps, 'store' | 'directory' | 'clock'> {
  readonly sessions: Pick<Sessions, 'count'>
  readonly authorities: Pick<Authorities, 'list' | 'shownPin'>
  readonly trust: FleetTrust
  readonly started: Date
  readonly enrolmentAddress: () => string
  readonly fleetAddress: () => string
  readonly maxPending: number
  /** What else is wrong, such as a backup that failed. */
  readonly otherProblems: () => readonly string[]
}

const MAX_SHOWN = 1_000

/** The fleet at a glance, and what is wrong with the coordinator itself. */
export function getFleet(deps: GetFleetDeps) {
  return async (
    _request: GetFleetRequest,
    _caller: Caller,
  ): Promise<MessageInitShape<typeof GetFleetResponseSchema>> => {
    const { authorities, clock, directory, sessions, trust } = deps
    const { targets } = directory
    const now = clock.now()
    const hosts = [...targets.hosts.keys()].toSorted()
    const health = await readFleetHealth(deps)
    const problems = [...fleetProblems(health, now), ...goneAuthorities(health)]
    return {
      fleetId: trust.newest?.set.fleetId ?? '',
      version: VERSION,
      caPin: authorities.shownPin,
      trustPin: trust.newest?.digest ?? '',
      trustNumber: BigInt(trust.number),
      enrolmentAddress: deps.enrolmentAddress(),
      fleetAddress: deps.fleetAddress(),
      revision: BigInt(targets.revision),
      manifestDigest: targets.manifestDigest,
      machinesByState: Object.fromEntries(STATES.map(state => [state, BigInt(directory.count(state))])),
      online: BigInt(sessions.count()),
      problems: [...problems, ...deps.otherProblems()].slice(0, MAX_SHOWN),
      started: timestampFromDate(deps.started),
      now: timestampFromDate(now),
      authorityPem: authorities
        .list()
        .map(({ certificatePem }) => certificatePem)
        .join(''),
      unboundHosts: hosts.filter(host => directory.claimants(host).length === 0).slice(0, MAX_SHOWN),
    }
  }
}
