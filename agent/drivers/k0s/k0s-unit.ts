import type { DriverDeps } from '../driver-base.ts'
import { hostOf, ownAddress } from '../driver-base.ts'
import { authorityInKubeconfig } from '../node/certificates.ts'
import { DONE, failed, type Result } from '../result.ts'
import { spentK0sToken } from './k0s-token.ts'

export const K0S_DATA = '/var/lib/k0s'
export const K0S_PKI = `${K0S_DATA}/pki`
/** Where controllers join. */
export const JOIN_PORT = 9443

/** The environment of a controller's unit: with it the unit is told to join, without it to found. */
export const FOUNDING = 'MUSTER_K0S_JOIN=\n'
export const joining = (runDir: string): string => `MUSTER_K0S_JOIN=--token-file=${runDir}/token\n`

/** Of `k0s reset` alone; not below the folder of secrets, which is cleared. */
export const RESET_CONFIG = '/run/muster-k0s-reset.yaml'
const NOBODY = 'muster-nobody'

/**
 * `k0s reset` deletes the users that its configuration names. They are the system's, which makes them at its next switch
 * only, and without them nothing could join here again. So it is given a configuration that names none.
 */
export const resetConfig = (): string =>
  JSON.stringify({
    apiVersion: 'k0s.k0sproject.io/v1beta1',
    kind: 'ClusterConfig',
    spec: {
      installConfig: {
        users: {
          etcdUser: NOBODY,
          kineUser: NOBODY,
          konnectivityUser: NOBODY,
          kubeAPIserverUser: NOBODY,
          kubeSchedulerUser: NOBODY,
        },
      },
    },
  })

/** A founder's unit is told to join from here on, with a token that opens nothing: it never founds a second cluster. */
export async function settleFounder(deps: DriverDeps): Promise<Result<void>> {
  const { files, facts } = deps
  const authority = (await files.read(`${K0S_PKI}/ca.crt`))?.toString('utf8')
  if (authority === undefined)
    return failed('unreadable', `${K0S_PKI}/ca.crt: missing on a controller that runs`)
  const address = facts.endpoint ?? (await ownAddress(deps)) ?? 'localhost'
  await files.put('token', spentK0sToken(authority, `https://${hostOf(address)}:${JOIN_PORT}`, 'controller'))
  await files.put('start.env', joining(files.runDir))
  return DONE
}

/** A worker's unit is given a token that opens nothing: it has its certificate, and must never be without a file. */
export async function settleWorker(deps: DriverDeps): Promise<Result<void>> {
  const { files, facts } = deps
  const kubeconfig = (await files.read(`${K0S_DATA}/kubelet.conf`))?.toString('utf8')
  const authority = kubeconfig === undefined ? undefined : authorityInKubeconfig(kubeconfig)
  if (!authority) return failed('unreadable', `${K0S_DATA}/kubelet.conf: holds no authority`)
  const address =
    facts.endpoint ?? [...facts.servers.values()].find(each => each !== undefined) ?? 'localhost'
  const server = `https://${hostOf(address)}:${facts.apiPort}`
  await files.put('token', spentK0sToken(authority.toString('utf8'), server, 'worker'))
  return DONE
}
