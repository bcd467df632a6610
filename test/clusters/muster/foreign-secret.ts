import { createPublicKey } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { writeJoinSecret } from '../../../agent/drivers/join-secret.ts'
import { generateMachineKey } from '../../../shared/x509/machine-key.ts'
import { bundleProgram } from '../../support/bundle-program.ts'
import { checkout } from '../../support/program.ts'
import type { ClusterFleet } from './cluster-fleet.ts'
import { type Host, isPackaged } from './rendered-system.ts'
import { readNodes } from './seen-cluster.ts'
import { SWAP_FILE, type Swap } from './swap.ts'
import { listTokens, untilNoTokens } from './token-watch.ts'

const KEY = '/var/lib/muster-agent/key.pem'
/** As another cluster would have minted it. */
const FOREIGN_TOKEN = 'foreig.0123456789abcdef'

/**
 * A machine that left is to join again, and a coordinator that was taken over gives it a token of another cluster: sealed by a machine that
 * is no server of its own, which the machine finds out by the signed manifest, and then by one that is, which its cluster finds out.
 */
export async function expectForeignSecretRefused(
  made: ClusterFleet,
  { joiner, server }: { readonly joiner: Host; readonly server: Host },
): Promise<void> {
  const key = createPublicKey(await made.machine(joiner).readFile(KEY))
  const recipientKey = key.export({ format: 'der', type: 'spki' }).toString('base64')
  const secret = writeJoinSecret({
    distribution: made.distribution,
    role: 'worker',
    server: `${made.machine(server).address}:6443`,
    token: FOREIGN_TOKEN,
    agentToken: undefined,
    files: isPackaged(made.distribution)
      ? new Map()
      : new Map([['ca.crt', await made.machine(server).readFile('/var/lib/kubernetes/pki/ca.crt')]]),
    initialCluster: undefined,
  })
  const stranger = await generateMachineKey(2048)
  const attempts = [
    [stranger.privateKeyPem, /is no server of this cluster by the signed manifest/],
    [await made.machine(server).readFile(KEY), /does not take the token|holds no token of/],
  ] as const
  for (const [minterKeyPem, refusal] of attempts) {
    await takeOver(made, { minterKeyPem, recipientKey, secret })
    await made.lab.untilOnline(joiner)
    await made.ok('rejoin', joiner)
    await made.untilWaits(joiner, refusal)
    expect((await readNodes(made, server)).map(({ name }) => name)).not.toContain(joiner)
  }
  await made.lab.fleet.coordinator?.kill()
  await made.lab.fleet.startCoordinator()
  await untilNoTokens(made, server)
  expect(await listTokens(made, server)).toEqual([])
}

async function takeOver(made: ClusterFleet, swap: Swap): Promise<void> {
  const { fleet } = made.lab
  // Where it finds the native modules.
  const program = join(checkout, '.cache/test/taken-over-coordinator.mjs')
  await bundleProgram(join(import.meta.dirname, 'taken-over-coordinator.ts'), program)
  const file = join(fleet.dir, 'swap.json')
  await writeFile(file, JSON.stringify(swap), { mode: 0o600 })
  await fleet.coordinator?.kill()
  await fleet.startCoordinator(program, { [SWAP_FILE]: file })
}
