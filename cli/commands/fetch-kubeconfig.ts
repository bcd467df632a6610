import { createPrivateKey, createPublicKey } from 'node:crypto'
import { writeFileDurably } from '../../shared/durable-file.ts'
import { type ClusterAct, ClusterRole, SecretPurpose } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { parseHostPort } from '../../shared/host-port.ts'
import { openSecret } from '../../shared/sealing/open-secret.ts'
import { keyId } from '../../shared/x509/key-id.ts'
import { generateMachineKey } from '../../shared/x509/machine-key.ts'
import type { Cli } from '../cli.ts'
import { isDone } from '../clusters/act-state.ts'
import { judgeKubeconfig } from '../clusters/judge-kubeconfig.ts'
import { runAct } from '../clusters/run-act.ts'
import { showAct } from '../clusters/show-act.ts'
import { openSigner, type Signer, signAct } from '../clusters/signer.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { makeNewFile } from '../fleets/private-file.ts'

export interface KubeconfigOptions {
  readonly out?: string | undefined
  readonly force?: boolean | undefined
  /** host:port that is written into it. */
  readonly server?: string | undefined
  /** The server that makes it. */
  readonly on?: string | undefined
  readonly key?: string | undefined
  readonly timeout: number
}

/**
 * Has a server make an administrator's kubeconfig, sealed to this operator's key: the coordinator carries it and cannot read
 * it. Believed only from a machine that the signed manifest, by this operator's own check, names as a server.
 */
export async function fetchKubeconfig(cli: Cli, cluster: string, options: KubeconfigOptions): Promise<void> {
  const { out, force, server = '', on = '', key, timeout } = options
  if (server !== '' && !parseHostPort(server)) {
    throw new CliError('usage', `--server ${server}: must be host:port or [IPv6]:port`)
  }
  if (force && out === undefined) throw new CliError('usage', 'cluster kubeconfig: --force is for --out FILE')
  await withCoordinator(cli, async connection => {
    const signer = await openSigner(cli, connection, key)
    const minters = mintersOf(signer, cluster)
    const own = await recipientKey(connection)
    const make = async () => {
      const signedOrder = signAct(cli, signer, { act: 'kubeconfig', cluster, recipientKey: own.publicKeyDer })
      const act = await runAct(
        cli,
        connection,
        { act: 'kubeconfig', cluster, host: on, serverAddress: server, signedOrder },
        timeout,
      )
      if (isDone(act)) return await open(cli, act, signer, own, minters)
      await showAct(cli, act, undefined)
      return undefined
    }
    if (out !== undefined && !force) {
      if (!(await makeNewFile(out, 0o600, make))) return
    } else {
      const text = await make()
      if (text === undefined) return
      if (out === undefined) return cli.io.out(text)
      await writeFileDurably(out, text, 0o600)
    }
    cli.io.err(
      `cluster ${cluster}: kubeconfig of an administrator written to ${out}; use it with KUBECONFIG=${out}\n`,
    )
  })
}

function mintersOf({ clusters }: Signer, cluster: string): ReadonlySet<string> {
  const named = clusters.get(cluster)
  if (!named) {
    throw new CliError(
      'notFound',
      `${cluster}: the newest revision names no such cluster; \`muster clusters\` lists them`,
    )
  }
  const minters = named.members.flatMap(({ role, machine }) => (role === 'worker' ? [] : (machine ?? [])))
  if (minters.length > 0) return new Set(minters)
  throw new CliError(
    'refused',
    `cluster ${cluster}: the newest revision names the key of none of its servers, so no answer could be believed: \`muster bind --all\`, then publish`,
  )
}

interface OwnKey {
  readonly privateKeyPem: string
  readonly publicKeyDer: Uint8Array
}

/** The key of the profile in use; root at the coordinator's socket has none, and takes one that lives as long as this call. */
async function recipientKey({ profile }: Connection): Promise<OwnKey> {
  if (!profile) return generateMachineKey()
  const { privateKeyPem } = profile
  const publicKeyDer = createPublicKey(createPrivateKey(privateKeyPem)).export({
    type: 'spki',
    format: 'der',
  })
  return { privateKeyPem, publicKeyDer }
}

async function open(
  cli: Cli,
  act: ClusterAct,
  { fleet }: Signer,
  own: OwnKey,
  minters: ReadonlySet<string>,
): Promise<string> {
  const value = act.result?.value
  if (value?.case !== 'kubeconfig') {
    throw new CliError(
      'conflict',
      `cluster ${act.cluster}: the kubeconfig was made, and another call has fetched it or its time is over; ask again`,
    )
  }
  const opened = openSecret(value.value, own.privateKeyPem, {
    binding: {
      purpose: SecretPurpose.KUBECONFIG,
      fleetId: fleet.fleetId,
      cluster: act.cluster,
      role: ClusterRole.UNSPECIFIED,
      recipient: keyId(own.publicKeyDer),
      operationId: act.id,
    },
    minters,
    // Whoever shows one again that was made for this operator and this act shows nothing else than it was.
    spent: new Map(),
    nowMs: cli.clock.now().getTime(),
  })
  if (opened.kind === 'refused') {
    throw new CliError('refused', `cluster ${act.cluster}: the kubeconfig is not good: ${opened.reason}`)
  }
  using secret = opened.secret
  const verdict = judgeKubeconfig(secret.reveal())
  if (verdict.kind === 'good') return verdict.text
  throw new CliError('refused', `cluster ${act.cluster}: the kubeconfig from its server ${verdict.reason}`)
}
