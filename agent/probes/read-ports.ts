import { create } from '@bufbuild/protobuf'
import {
  ListeningPortSchema,
  type PortsAnswer,
  PortsAnswerSchema,
} from '../../shared/gen/muster/v1/probe_pb.ts'
import type { System } from '../system/system.ts'
import { type ListeningSocket, type PortProtocol, parseSockets } from './parse-sockets.ts'

const MAX_PORTS = 1_000
const MAX_TABLE_BYTES = 8 * 1024 * 1024
const PROTOCOLS: readonly PortProtocol[] = ['tcp', 'tcp6', 'udp', 'udp6']

/** What listens, from the kernel's own tables. Throws where none of them can be read. */
export async function readPorts(system: System): Promise<PortsAnswer> {
  const found: ListeningSocket[] = []
  let read = 0
  let cut = false
  for (const protocol of PROTOCOLS) {
    const table = await system.readFile(`/proc/net/${protocol}`, MAX_TABLE_BYTES)
    // A kernel without IPv6 has no such table.
    if (table.kind === 'missing') continue
    if (table.kind === 'unreadable') throw new Error(`ports: /proc/net/${protocol}: ${table.code}`)
    read++
    cut ||= table.truncated
    found.push(...parseSockets(protocol, table.bytes.toString('latin1')))
  }
  if (read === 0) throw new Error('ports: /proc/net has no table of sockets')
  const unique = new Map(
    found.map(one => [`${one.protocol} ${one.address} ${one.port} ${one.uid}`, one] as const),
  )
  const sorted = [...unique.values()].sort((a, b) => a.port - b.port || (a.protocol < b.protocol ? -1 : 1))
  return create(PortsAnswerSchema, {
    ports: sorted.slice(0, MAX_PORTS).map(one => create(ListeningPortSchema, one)),
    truncated: cut || sorted.length > MAX_PORTS,
  })
}
