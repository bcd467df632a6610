import { readFile, stat } from 'node:fs/promises'
import {
  enumToJson,
  fromBinary,
  fromJsonString,
  type MessageInitShape,
  toJsonString,
} from '@bufbuild/protobuf'
import { timestampDate } from '@bufbuild/protobuf/wkt'
import { credentials, status } from '@grpc/grpc-js'
import { reasonOf } from '../../shared/errors.ts'
import { escapeText } from '../../shared/escape.ts'
import type { OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import {
  type GetStatusResponse,
  GetStatusResponseSchema,
  LocalService,
} from '../../shared/gen/muster/v1/local_pb.ts'
import { OutcomeClassSchema, PhaseSchema } from '../../shared/gen/muster/v1/operation_pb.ts'
import { type TrustChain, TrustChainSchema } from '../../shared/gen/muster/v1/trust_pb.ts'
import { createClient, type RpcClient } from '../../shared/rpc/client.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import type { LocalVerb } from '../arguments.ts'
import { ConfigError } from '../config-fields.ts'

const MAX_TRUST_BYTES = 16 * 1024 * 1024
const DEADLINE_MS = 10_000

type LocalClient = RpcClient<typeof LocalService>

/** Asks the agent of this machine. Its socket is the one channel without TLS: a file that only root can open. */
async function askAgent<T>(socket: string, ask: (client: LocalClient) => Promise<T>): Promise<T> {
  using client = createClient(LocalService, `unix:${socket}`, credentials.createInsecure())
  try {
    return await ask(client)
  } catch (error) {
    if (!(error instanceof RpcError) || error.code !== status.UNAVAILABLE) throw error
    throw new Error(`${socket}: no agent answers there; is it running, and are you root?`, { cause: error })
  }
}

/** What `muster-agent status` prints. */
export async function statusText(socket: string, json: boolean): Promise<string> {
  const answer = await askAgent(socket, client => client.getStatus({}, { deadlineMs: DEADLINE_MS }))
  return json ? `${toJsonString(GetStatusResponseSchema, answer)}\n` : formatStatus(answer)
}

function formatStatus(answer: GetStatusResponse): string {
  const rows: [string, string][] = [
    ['machine', answer.machine],
    ['host', answer.host || 'none'],
    ['state', answer.reason === '' ? answer.state : `${answer.state}: ${answer.reason}`],
    ['coordinator', answer.coordinator],
    [
      'certificate',
      answer.certificateExpires
        ? `until ${timestampDate(answer.certificateExpires).toISOString()}`
        : 'none yet',
    ],
    ['trust set', trustText(answer)],
    ['revision', answer.highestRevision === 0n ? 'none accepted yet' : String(answer.highestRevision)],
    ['agent', `${answer.version}, process ${answer.processId}`],
    ...nodeRows(answer),
    ...clusterRows(answer),
    ...answer.operations.map((operation): [string, string] => [
      'operation',
      `${operation.operationId} ${operation.action}${operation.revision === 0n ? '' : ` revision ${operation.revision}`}: ${
        operation.outcome
          ? `${word(enumToJson(OutcomeClassSchema, operation.outcome.class))}. ${operation.outcome.reason}`
          : `in ${word(enumToJson(PhaseSchema, operation.phases.at(-1)?.phase ?? 0))}`
      }`,
    ]),
  ]
  return rows.map(([name, value]) => `${name.padEnd(12)} ${escapeText(value)}\n`).join('')
}

function nodeRows({ node }: GetStatusResponse): [string, string][] {
  if (!node) return []
  const since = node.held?.since ? ` since ${timestampDate(node.held.since).toISOString()}` : ''
  return [
    ...(node.held ? [['held', `${node.held.reason || 'no reason given'}${since}`] as [string, string]] : []),
    ...node.quarantined.map(({ storePath, reason }): [string, string] => [
      'quarantine',
      `${storePath}: ${reason}`,
    ]),
  ]
}

function clusterRows({ cluster: part }: GetStatusResponse): [string, string][] {
  if (!part) return []
  const { cluster, distribution, role, data, version, held, operations } = part
  const about = cluster === '' ? 'none in its system' : `${cluster}, ${distribution} ${role}`
  const runs = `${version === '' ? '' : `, runs ${version}`}${held ? ', held down' : ''}`
  return [
    ['cluster', `${about}: ${data}${runs}`],
    ...operations.map(({ operationId, action, state, reason }): [string, string] => [
      'order',
      `${operationId} ${action}: ${state}${reason === '' ? '' : `. ${reason}`}`,
    ]),
  ]
}

/** OUTCOME_CLASS_BUILD_FAILED is "build failed". */
function word(name: unknown): string {
  return String(name)
    .replace(/^(OUTCOME_CLASS|PHASE)_/, '')
    .replaceAll('_', ' ')
    .toLowerCase()
}

function trustText({ trustNumber, trustFirstUse }: GetStatusResponse): string {
  if (trustNumber === 0n) return 'none yet: no revision is taken'
  return trustFirstUse ? `${trustNumber}, first use: not confirmed by an operator` : String(trustNumber)
}

/** Replaces the trust set of the agent that runs here, and says what counts from then on. */
export async function setTrust(socket: string, file: string): Promise<string> {
  const trust = await readTrustFile(file)
  const { number, digest } = await askAgent(socket, client =>
    client.setTrust({ trust }, { deadlineMs: DEADLINE_MS }),
  )
  return `trust set ${number} counts on this machine from now on\ndigest ${digest}\n`
}

/** Gives an order by hand on this machine; says which operation it became. */
export async function giveOrder(socket: string, verb: LocalVerb, argument: string): Promise<string> {
  const { operationId } = await askAgent(socket, client =>
    client.giveOrder({ order: { action: actionFor(verb, argument) } }, { deadlineMs: DEADLINE_MS }),
  )
  return `operation ${operationId}: ${verb}\nmuster-agent status shows what became of it\n`
}

function actionFor(
  verb: LocalVerb,
  argument: string,
): NonNullable<MessageInitShape<typeof OrderSchema>['action']> {
  switch (verb) {
    case 'rollback':
      return { case: 'rollback', value: { operationId: argument } }
    case 'hold':
      return { case: 'hold', value: { reason: argument } }
    case 'reboot':
      return { case: 'reboot', value: {} }
    case 'restart':
      return { case: 'restart', value: {} }
    case 'resume':
      return { case: 'resume', value: {} }
    case 'retry':
      return { case: 'retry', value: {} }
  }
}

/** Confirms the change that waits for it; says which. */
export async function confirmByHand(socket: string, operation: string): Promise<string> {
  const { operationId } = await askAgent(socket, client =>
    client.confirm({ operationId: operation }, { deadlineMs: DEADLINE_MS }),
  )
  return `operation ${operationId} is confirmed\n`
}

/** A chain of trust sets as it stands in the operator’s fleet folder: the serialised message, or its JSON. */
async function readTrustFile(file: string): Promise<TrustChain> {
  try {
    const { size } = await stat(file)
    if (size > MAX_TRUST_BYTES) throw new Error(`${size} bytes are too many`)
    const bytes = await readFile(file)
    const chain =
      bytes[0] === '{'.charCodeAt(0)
        ? fromJsonString(TrustChainSchema, bytes.toString('utf8'))
        : fromBinary(TrustChainSchema, bytes)
    if (chain.envelopes.length === 0) throw new Error('it holds no trust set')
    return chain
  } catch (error) {
    throw new ConfigError(`${file}: is no chain of trust sets: ${reasonOf(error)}`, { cause: error })
  }
}
