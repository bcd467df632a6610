import { status } from '@grpc/grpc-js'
import { escapeText } from '../../shared/escape.ts'
import type { OperationSummary } from '../../shared/gen/muster/v1/order_pb.ts'
import { phaseName } from '../../shared/operation-names.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import { instantOf, millisOf } from '../../shared/time.ts'
import type { Cli } from '../cli.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { formatDuration } from '../duration.ts'
import { CliError } from '../exit-codes.ts'
import type { Format } from '../output/format.ts'
import {
  nameOf,
  operationListing,
  operationStyle,
  orderText,
  reasonOfOperation,
  stateOf,
} from '../output/operation-listing.ts'
import { planText } from '../output/plan-listing.ts'
import { renderList } from '../output/show-list.ts'
import { renderFields, renderTable, tableLook } from '../output/table.ts'
import { watch } from '../output/watch.ts'

export interface OperationsOptions {
  readonly limit?: number | undefined
  readonly output?: Format | undefined
  readonly watch?: number | boolean | undefined
}

/** As `operationId` in shared/ids.ts makes them. */
function isOperationId(text: string): boolean {
  return /^[0-9a-z]{9}-[0-9a-f]{12}$/.test(text)
}

/** A host may have such a name, too: hosts and machines come first. */
function mayBeginOperationId(text: string): boolean {
  return /^(?:[0-9a-z]{4,9}|[0-9a-z]{9}-[0-9a-f]{0,12})$/.test(text)
}

/** The newest operations, of all machines or one; an operation's id shows that one with its phases. */
export async function listOperations(
  cli: Cli,
  ref: string | undefined,
  options: OperationsOptions,
): Promise<void> {
  await withCoordinator(cli, async connection => {
    await watch(cli, options.watch, () => render(cli, connection, ref, options))
  })
}

async function render(
  cli: Cli,
  connection: Connection,
  ref: string | undefined,
  options: OperationsOptions,
): Promise<string> {
  if (ref !== undefined && isOperationId(ref)) return await renderOne(cli, connection, ref, options)
  try {
    return await renderAll(cli, connection, ref, options)
  } catch (error) {
    if (ref === undefined || !isUnknown(error) || !mayBeginOperationId(ref)) throw error
    // What was said of machines is said where no operation begins so either.
    return await renderOne(cli, connection, ref, options).catch(second => {
      throw isUnknown(second) ? error : second
    })
  }
}

function isUnknown(error: unknown): boolean {
  if (error instanceof CliError) return error.exit === 'notFound'
  return error instanceof RpcError && error.code === status.NOT_FOUND
}

/** The whole id of an operation that begins so. One that is not known is given as it was said: whoever is asked next explains. */
export async function wholeOperationId({ client, call }: Connection, start: string): Promise<string> {
  try {
    const { operations } = await client.listOperations({ operationIds: [start] }, call)
    return operations[0]?.operationId ?? start
  } catch (error) {
    if (isUnknown(error)) return start
    throw error
  }
}

async function renderAll(
  cli: Cli,
  { client, call }: Connection,
  ref: string | undefined,
  { limit, output }: OperationsOptions,
): Promise<string> {
  const { operations } = await client.listOperations({ ref: ref ?? '', limit: limit ?? 0 }, call)
  const text = await renderList(cli.io, operations, operationListing(cli.clock.now()), output)
  return text === '' ? 'no operations\n' : text
}

async function renderOne(
  cli: Cli,
  { client, call }: Connection,
  id: string,
  { output }: OperationsOptions,
): Promise<string> {
  const { operations } = await client.listOperations({ operationIds: [id] }, call)
  const operation = operations.find(({ operationId }) => operationId.startsWith(id))
  if (!operation) throw new CliError('notFound', `operation ${id}: not known`)
  if (output !== undefined && output !== 'table' && output !== 'wide') {
    return renderList(cli.io, [operation], operationListing(cli.clock.now()), output)
  }
  return describe(cli, operation)
}

function describe({ io, clock }: Cli, operation: OperationSummary): string {
  const { outcome } = operation
  const fields = renderFields(
    [
      ['Operation', operation.operationId],
      ['Host', nameOf(operation)],
      ['Machine', operation.machine],
      ['Order', orderText(operation)],
      [
        'Leads to',
        operation.rollback && operation.revision > 0n ? `revision ${operation.revision}` : undefined,
      ],
      ['Ordered', `${new Date(millisOf(operation.ordered) ?? 0).toISOString()} by ${operation.orderedBy}`],
      ['State', stateOf(operation), operationStyle(operation)],
      ['Reason', reasonOfOperation(operation)],
      ['Exit code', outcome?.exitCode === undefined ? undefined : String(outcome.exitCode)],
      ['System', outcome?.storePath],
      ['Runs', outcome?.runs],
      ['Not before', instantOf(operation.notBefore)?.toISOString()],
      ['Tries again', operation.retryOf],
      ['Confirmed', instantOf(operation.confirmed)?.toISOString()],
      ['Signed', signatureText(operation), operation.badlySigned ? 'bad' : 'plain'],
    ],
    io.colour,
  )
  const plan = operation.plan ? `\n${planText(operation, io.colour)}` : ''
  if (operation.phases.length === 0) return `${fields}${plan}`
  const now = clock.now().getTime()
  const table = renderTable(
    operation.phases,
    [
      { title: 'PHASE', text: record => phaseName(record.phase) },
      {
        title: 'TOOK',
        text: record => {
          const started = millisOf(record.started)
          const ended = millisOf(record.ended)
          if (started === undefined) return ''
          return ended === undefined ? `${formatDuration(now - started)} …` : formatDuration(ended - started)
        },
      },
      { title: 'EXIT', text: record => (record.exitCode === undefined ? '' : String(record.exitCode)) },
      { title: 'DETAIL', wraps: true, text: record => record.detail },
    ],
    { ...tableLook(io, false), wide: true },
  )
  return `${fields}${plan}\n${table}\nIts output: muster logs ${escapeText(nameOf(operation))} --operation ${operation.operationId}\n`
}

function signatureText({ outcome, signedOutcome, badlySigned }: OperationSummary): string | undefined {
  if (badlySigned) return 'the signature on its outcome was not good'
  if (signedOutcome) return 'by the machine’s own key'
  return outcome ? 'no' : undefined
}
