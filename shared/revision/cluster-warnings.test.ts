import { create } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import { readFleetFile } from '../fleet-file/read-fleet-file.ts'
import { TargetSchema } from '../gen/muster/v1/manifest_pb.ts'
import { clusterWarnings } from './cluster-warnings.ts'

const fleetOf = (version: string, machine = '') => {
  const read = readFleetFile(
    `[fleet]
name = "home"
id = "5f1c0a7be2d94c3386a1f0d2b7c4e895"
[clusters.home]
distribution = "k3s"
${version}
[hosts.olaf]
role = "server"
cluster = "home"
${machine}
[hosts.nils]
role = "worker"
cluster = "home"
`,
    'fleet.toml',
  )
  if (!read.ok) throw new Error(JSON.stringify(read.problems))
  return read.fleet
}
const was = (host: string, role: string, version: string) =>
  create(TargetSchema, { host, role, cluster: 'home', kubernetes: { version } })

describe('a good fleet file', () => {
  it('is warned about servers whose key it does not name, with the command that writes it', () => {
    expect(clusterWarnings(fleetOf(''), [])).toEqual([
      'cluster home: no `machine` key is written for the server olaf, and without it a server joins nothing and lets nobody join; once bound, `muster bind --all` writes it into fleet.toml',
    ])
    expect(clusterWarnings(fleetOf('', `machine = "${'a'.repeat(64)}"`), [])).toEqual([])
  })

  it('is warned about a step between versions that no server or kubelet takes', () => {
    const fleet = fleetOf('version = "1.36.0"', `machine = "${'a'.repeat(64)}"`)
    const old = [was('olaf', 'server', '1.34.3'), was('nils', 'worker', '1.32.0')]
    expect(clusterWarnings(fleet, old)).toEqual([
      expect.stringContaining('cluster home to 1.36.0: olaf runs 1.34.3; go to 1.35 before'),
      expect.stringContaining('cluster home to 1.36.0: nils runs 1.32.0, more than 3 minors behind'),
    ])
    expect(clusterWarnings(fleet, [was('olaf', 'server', '1.35.4')])).toEqual([])
    expect(clusterWarnings(fleet, [was('olaf', 'server', '1.37.0')])).toEqual([
      expect.stringContaining('does not go back'),
    ])
  })

  it('is warned about a datastore that must go another way first', () => {
    const fleet = fleetOf('version = "1.34.3"', `machine = "${'a'.repeat(64)}"`)
    expect(clusterWarnings(fleet, [was('olaf', 'server', '1.33.7')])).toEqual([
      expect.stringContaining('cluster home to 1.34.3: olaf runs 1.33.7, whose etcd must not be followed'),
    ])
    expect(clusterWarnings(fleet, [was('olaf', 'server', '1.33.8')])).toEqual([])
  })
})
