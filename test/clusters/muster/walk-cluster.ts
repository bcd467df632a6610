import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isReal, whyNoClusters } from '../../lab/clusters/programs.ts'
import { SET_UP_MS } from '../../lab/why-not.ts'
import { type ClusterFleet, startClusterFleet } from './cluster-fleet.ts'
import { HOSTS, isPackaged, type LabDistribution } from './rendered-system.ts'

/** The life of a cluster of three servers and two workers, by an operator's commands alone. */
export function walkCluster(distribution: LabDistribution): void {
  const why = whyNoClusters()
  let made: ClusterFleet

  beforeAll(async () => {
    if (why === undefined) made = await startClusterFleet(distribution)
  }, SET_UP_MS)
  afterAll(async () => await made?.[Symbol.asyncDispose](), 120_000)

  describe.skipIf(why !== undefined)(`a cluster of ${nameOf(distribution)} ${why ?? ''}`, () => {
    it('puts onto every machine units that wait for its agent', async () => {
      for (const host of HOSTS) {
        const machine = made.machine(host)
        const { units } = JSON.parse(await machine.readFile('/etc/muster/cluster.json'))
        expect(units).not.toEqual([])
        for (const unit of units)
          expect([host, unit, (await machine.exec(['systemctl', 'is-active', unit])).stdout]).toEqual([
            host,
            unit,
            'inactive\n',
          ])
        expect(await machine.failedUnits()).toEqual([])
      }
    })
  })
}

const nameOf = (distribution: LabDistribution): string =>
  isPackaged(distribution) && !isReal(distribution) ? `${distribution} (stand-in)` : distribution
