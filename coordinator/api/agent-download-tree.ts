import type { MessageInitShape } from '@bufbuild/protobuf'
import type { DownloadTreeRequest, DownloadTreeResponseSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { exhausted, invalid } from '../../shared/rpc/rpc-error.ts'
import type { Blobs } from '../revisions/blobs.ts'
import { type AgentRevisionDeps, ownTarget } from './agent-get-revision.ts'

/** A machine that lost a connection may begin anew before the old download is noticed to be dead. */
const DOWNLOADS_PER_MACHINE = 2

/** The packed tree of a revision that has a target for the machine that asks. */
export function agentDownloadTree(deps: AgentRevisionDeps & { readonly blobs: Blobs }) {
  const running = new Map<string, number>()
  return async function* (
    request: DownloadTreeRequest,
    machine: string,
  ): AsyncGenerator<MessageInitShape<typeof DownloadTreeResponseSchema>> {
    const { revision } = await ownTarget(deps, request.number, machine)
    const { treeDigest: digest, treeLength } = revision.manifest.manifest
    if (request.offset > treeLength) {
      throw invalid(`offset: ${request.offset} is beyond the ${treeLength} bytes of the tree`)
    }
    const count = running.get(machine) ?? 0
    if (count >= DOWNLOADS_PER_MACHINE) {
      throw exhausted(`this machine has ${count} downloads running; wait for them or end them`)
    }
    running.set(machine, count + 1)
    try {
      const blob = { digest, length: Number(treeLength) }
      for await (const chunk of deps.blobs.read(blob, Number(request.offset))) yield { chunk }
    } finally {
      const left = (running.get(machine) ?? 1) - 1
      if (left > 0) running.set(machine, left)
      else running.delete(machine)
    }
  }
}
