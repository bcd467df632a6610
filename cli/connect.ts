import { access, constants } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { DescService } from '@bufbuild/protobuf'
import { ChannelCredentials } from '@grpc/grpc-js'
import { hasCode, reasonOf } from '../shared/errors.ts'
import { OperatorService } from '../shared/gen/muster/v1/operator_pb.ts'
import { type CallOptions, createClient, type RpcClient } from '../shared/rpc/client.ts'
import { createClientCredentials } from '../shared/x509/client-credentials.ts'
import type { Cli } from './cli.ts'
import { CliError } from './exit-codes.ts'
import { explainCallError } from './explain-error.ts'
import { listProfiles, type Profile, profileFolder, readProfile } from './profiles.ts'

export const DEFAULT_SOCKET = '/var/lib/muster-coordinator/coordinator.sock'
/** Where the NixOS module puts it; looked at when there is none at the default place. */
const MODULE_SOCKET = '/run/muster-coordinator/coordinator.sock'

/** A revision of a large fleet has all its targets in one message. */
const CHANNEL = { 'grpc.max_receive_message_length': 128 * 1024 * 1024 }

/** A coordinator that can be called. */
export interface Connection {
  readonly client: RpcClient<typeof OperatorService>
  /** Another service of the same coordinator, over the same way; closed with the connection. */
  readonly service: <S extends DescService>(service: S) => RpcClient<S>
  /** Where it is, for people. */
  readonly place: string
  readonly profile: Profile | undefined
  /** For every call: ends it when the person stops the command. */
  readonly call: CallOptions
}

interface Opened extends Pick<Connection, 'place' | 'profile'> {
  readonly credentials: ChannelCredentials
  /** What `place` is called by gRPC. */
  readonly address: string
  readonly cure: string
}

/** Which way a coordinator is reached. */
export type Way =
  | { readonly kind: 'socket'; readonly path: string; readonly given: boolean }
  | { readonly kind: 'profile'; readonly name: string }

/** Decides the way from what was said, in the order command line, environment, what is there. */
export function chooseWay(
  flags: { readonly socket?: string | undefined; readonly profile?: string | undefined },
  environment: { readonly socket: string | undefined; readonly profile: string | undefined },
  found: { readonly socket: string | undefined; readonly profiles: readonly string[] },
): Way {
  if (flags.socket !== undefined && flags.profile !== undefined) {
    throw new CliError('usage', '--socket and --profile: give one of the two')
  }
  if (flags.socket !== undefined) return { kind: 'socket', path: resolve(flags.socket), given: true }
  if (flags.profile !== undefined) return { kind: 'profile', name: flags.profile }
  if (environment.socket !== undefined && environment.profile !== undefined) {
    throw new CliError(
      'usage',
      'MUSTER_SOCKET and MUSTER_PROFILE are both set; unset one, or say --socket or --profile',
    )
  }
  if (environment.socket !== undefined)
    return { kind: 'socket', path: resolve(environment.socket), given: true }
  if (environment.profile !== undefined) return { kind: 'profile', name: environment.profile }
  if (found.socket !== undefined) return { kind: 'socket', path: found.socket, given: false }
  const [only, second] = found.profiles
  if (only !== undefined && second === undefined) return { kind: 'profile', name: only }
  if (second !== undefined) {
    throw new CliError(
      'usage',
      `several operator profiles are here (${found.profiles.join(', ')}): say --profile NAME or set MUSTER_PROFILE`,
    )
  }
  return { kind: 'socket', path: DEFAULT_SOCKET, given: false }
}

/** Runs `work` with a client of the coordinator. Errors of calls come out as people are told them. */
export async function withCoordinator<T>(cli: Cli, work: (connection: Connection) => Promise<T>): Promise<T> {
  const way = chooseWay(cli.connection(), cli.settings, {
    socket: await findSocket(),
    profiles: await listProfiles(cli.settings.configHome),
  })
  const { cure, address, credentials, place, profile } = await open(cli, way)
  const opened: Disposable[] = []
  const service = <S extends DescService>(desc: S): RpcClient<S> => {
    const client = createClient(desc, address, credentials, CHANNEL)
    opened.push(client)
    return client
  }
  try {
    const client = service(OperatorService)
    return await work({ client, service, place, profile, call: { signal: cli.signal } })
  } catch (error) {
    throw explainCallError(error, place, cure)
  } finally {
    for (const client of opened) client[Symbol.dispose]()
  }
}

async function findSocket(): Promise<string | undefined> {
  for (const path of [DEFAULT_SOCKET, MODULE_SOCKET]) {
    const state = await socketState(path)
    if (state !== 'missing') return path
  }
  return undefined
}

async function socketState(path: string): Promise<'usable' | 'denied' | 'missing'> {
  try {
    await access(path, constants.R_OK | constants.W_OK)
    return 'usable'
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return 'missing'
    if (hasCode(error, 'EACCES') || hasCode(error, 'EPERM')) return 'denied'
    throw error
  }
}

async function open(cli: Cli, way: Way): Promise<Opened> {
  return way.kind === 'socket' ? openSocket(way.path) : openProfile(cli, way.name)
}

const COORDINATOR_CURE =
  'Is the coordinator running? Look with `systemctl status muster-coordinator`, or start one with `npm start` in a checkout.'

async function openSocket(path: string): Promise<Opened> {
  const state = await socketState(path)
  if (state === 'missing') {
    throw new CliError(
      'unavailable',
      `no coordinator's socket at ${path}\n${COORDINATOR_CURE}\n` +
        'Another place is said with --socket PATH; a coordinator elsewhere is reached with --profile NAME (see `muster operator add --help`).',
    )
  }
  if (state === 'denied') {
    throw new CliError(
      'refused',
      `${path}: only root may use the coordinator's socket\nRun the command with sudo, or use an operator profile (--profile NAME).`,
    )
  }
  const credentials = ChannelCredentials.createInsecure()
  return { credentials, address: `unix:${path}`, place: path, profile: undefined, cure: COORDINATOR_CURE }
}

async function openProfile(cli: Cli, name: string): Promise<Opened> {
  const folder = profileFolder(cli.settings.configHome, name)
  const known = await listProfiles(cli.settings.configHome)
  if (!known.includes(name)) {
    const there = known.length > 0 ? `here are ${known.join(', ')}` : 'here are none'
    throw new CliError(
      'notFound',
      `${folder}: no such profile; ${there}. \`muster operator add ${name}\` at the coordinator writes one`,
    )
  }
  const profile = await readProfile(folder, cli.clock.now())
  const { address: place, chainPem, privateKeyPem } = profile
  let credentials: ChannelCredentials
  try {
    credentials = createClientCredentials({ caPem: [profile.caPem], identity: { chainPem, privateKeyPem } })
  } catch (error) {
    throw new CliError(
      'error',
      `${folder}: key, certificate and authority do not make a profile: ${reasonOf(error)}`,
      { cause: error },
    )
  }
  const cure =
    `Is the coordinator running, and ${place} reachable from here? ` +
    `A connection that breaks off at once means that the coordinator does not know profile ${name} any more, ` +
    `or shows another authority than ${folder}/ca.pem.`
  return { credentials, address: place, place, profile, cure }
}
