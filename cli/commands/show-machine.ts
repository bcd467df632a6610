import { fromBinary } from '@bufbuild/protobuf'
import { escapeText } from '../../shared/escape.ts'
import { type Facts, FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { BoundBy, type GetMachineResponse, type Machine } from '../../shared/gen/muster/v1/machine_pb.ts'
import type { HostStanding } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { millisOf } from '../../shared/time.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { formatBytes } from '../duration.ts'
import { CliError } from '../exit-codes.ts'
import { paint, type Style } from '../output/colour.ts'
import { eventListing } from '../output/event-listing.ts'
import { flatten } from '../output/flatten.ts'
import { type Format, toCsv, toJson, toYaml } from '../output/format.ts'
import { ago, machineRecord, stateStyle, stateWord } from '../output/machine-listing.ts'
import { operationListing } from '../output/operation-listing.ts'
import { type PlainRecord, plainOf } from '../output/plain.ts'
import { atGates, fetchStandings, standingColumns, standingRecord } from '../output/standing-listing.ts'
import { renderFields, renderTable, tableLook } from '../output/table.ts'

export interface ShowOptions {
  readonly nix?: boolean | undefined
  readonly facts?: boolean | undefined
  readonly history?: number | undefined
  readonly output?: Format | undefined
}

/** One machine in full. */
export async function showMachine(cli: Cli, ref: string, options: ShowOptions): Promise<void> {
  await withCoordinator(cli, async connection => {
    const { client, call } = connection
    const answer = await client.getMachine({ ref, history: options.history ?? 0 }, call)
    const { machine } = answer
    if (!machine) throw new CliError('error', `the coordinator told nothing of ${ref}`)
    const facts = readFacts(machine.facts)
    if (options.nix) return cli.io.out(await nixModule(ref, facts))
    const standings = machine.host === '' ? [] : await fetchStandings(connection, machine.host)
    const record = recordOf(answer, machine, facts, standings, options)
    switch (options.output) {
      case 'json':
        return cli.io.out(toJson(record))
      case 'yaml':
        return cli.io.out(await toYaml(record))
      case 'csv':
        return cli.io.out(toCsv([record], Object.keys(record)))
      case 'table':
      case 'wide':
      case undefined:
        return cli.io.out(
          options.facts
            ? factsText(requireFacts(ref, facts))
            : human(cli, answer, machine, facts, standings, options),
        )
    }
  })
}

function readFacts(bytes: Uint8Array): Facts | undefined {
  return bytes.length === 0 ? undefined : fromBinary(FactsSchema, bytes)
}

function requireFacts(ref: string, facts: Facts | undefined): Facts {
  if (facts) return facts
  throw new CliError('notFound', `${ref}: has told no facts yet`)
}

async function nixModule(ref: string, facts: Facts | undefined): Promise<string> {
  const { hardwareModule } = await import('../hardware-module.ts')
  return hardwareModule(requireFacts(ref, facts))
}

function recordOf(
  answer: GetMachineResponse,
  machine: Machine,
  facts: Facts | undefined,
  standings: readonly HostStanding[],
  { facts: only, history }: ShowOptions,
): PlainRecord {
  const factsRecord = facts && plainOf(FactsSchema, facts, 'omit')
  if (only) return factsRecord ?? {}
  const { operations, events } = answer
  return {
    ...machineRecord(machine),
    facts: factsRecord ?? null,
    waiting: standings.map(standingRecord),
    ...(history
      ? {
          history: answer.history.map(({ at, facts: bytes }) => ({
            at: isoOf(millisOf(at)),
            facts: plainOf(FactsSchema, fromBinary(FactsSchema, bytes), 'omit'),
          })),
        }
      : {}),
    operations: operations.map(operationListing(new Date()).record),
    events: events.map(eventListing(new Date()).record),
  }
}

function isoOf(millis: number | undefined): string | null {
  return millis === undefined ? null : new Date(millis).toISOString()
}

const BOUND: Readonly<Record<BoundBy, string>> = {
  [BoundBy.UNSPECIFIED]: '',
  [BoundBy.KEY]: 'by its key in the fleet file',
  [BoundBy.HARDWARE]: 'by its hardware in the fleet file',
  [BoundBy.RULE]: "by its group's rule",
  [BoundBy.HAND]: 'by hand: loose',
}

function human(
  cli: Cli,
  answer: GetMachineResponse,
  machine: Machine,
  facts: Facts | undefined,
  standings: readonly HostStanding[],
  options: ShowOptions,
): string {
  const { colour } = cli.io
  const now = cli.clock.now()
  const look = tableLook(cli.io, options.output === 'wide')
  const title = (text: string) => `\n${paint(text, 'bold', colour)}\n`
  const seen = millisOf(machine.lastSeen)
  const expires = millisOf(machine.certificateExpires)
  const parts = [
    renderFields(
      [
        ['Machine', machine.id],
        ['State', stateWord(machine.state), stateStyle(machine)],
        [
          'Seen',
          machine.online ? 'online' : seen === undefined ? 'never' : `${ago(seen, now.getTime())} ago`,
          machine.online ? 'good' : 'warn',
        ],
        [
          'Host',
          machine.host && `${machine.host}, bound ${BOUND[machine.boundBy]}`,
          machine.boundBy === BoundBy.HAND ? 'warn' : 'plain',
        ],
        ['Group', machine.group],
        ['Address', machine.address],
        [
          'Labels',
          Object.entries(machine.labels)
            .map(([key, value]) => `${key}=${value}`)
            .sort()
            .join(', '),
        ],
        ['Admitted by', machine.admittedBy],
        ['First seen', machine.firstSeen && `${ago(millisOf(machine.firstSeen), now.getTime())} ago`],
        ['Agent', machine.agentVersion],
        ['Certificate', expires === undefined ? undefined : `until ${new Date(expires).toISOString()}`],
        [
          'Trust',
          machine.trust &&
            `set ${machine.trust.number}${machine.trust.firstUse ? ', first use: compare the digest on the node, then `muster trust confirm`' : ''}`,
          machine.trust?.firstUse ? 'warn' : 'plain',
        ],
        [
          'Revision',
          machine.appliedRevision > 0n
            ? `${machine.appliedRevision}${machine.highestRevision === machine.appliedRevision ? '' : `, highest accepted ${machine.highestRevision}`}`
            : undefined,
        ],
        ...statusLines(machine),
        ['Reboot wanted', machine.rebootReasons.join(', '), 'warn'],
        ['Simulated', machine.simulated ? 'yes: its hardware is made up' : undefined, 'warn'],
        ...machine.conditions.map(
          ({ class: kind, reason }) => ['Look at', `${kind}: ${reason}`, 'warn'] as const,
        ),
      ],
      colour,
    ),
  ]
  if (standings.length > 0) {
    parts.push(title('Rollouts'), renderTable(atGates(standings), standingColumns(now), look))
  }
  parts.push(
    facts
      ? title('Hardware') + renderFields(hardwareOf(facts), colour)
      : `${title('Hardware')}it has told no facts yet\n`,
  )
  if (options.history) parts.push(title('Changes of its facts'), historyText(answer, facts))
  if (answer.operations.length > 0) {
    parts.push(title('Operations'), renderTable(answer.operations, operationListing(now).columns, look))
  }
  if (answer.events.length > 0) {
    parts.push(title('Events'), renderTable(answer.events, eventListing(now).columns, look))
  }
  return parts.join('')
}

/** What the node holds on to; that it is held stands among what to look at. */
function statusLines({ nodeStatus }: Machine): (readonly [string, string | undefined, Style?])[] {
  if (!nodeStatus) return []
  const { quarantined, program, bootLoader, oneShotBoot, generations } = nodeStatus
  const current = generations.find(generation => generation.current)
  return [
    ['Program', program],
    ['Boots with', bootLoader && `${bootLoader}${oneShotBoot ? ', can boot a system once' : ''}`],
    [
      'Generations',
      generations.length > 0
        ? `${generations.length}${current ? `, ${current.number} runs` : ''}; \`muster generations\` lists them`
        : undefined,
    ],
    ...quarantined.map(
      ({ storePath, reason, operationId }) =>
        ['Quarantined', `${storePath}: ${reason} (operation ${operationId})`, 'warn'] as const,
    ),
  ]
}

type FactLine = readonly [name: string, value: string | undefined]

function hardwareOf(facts: Facts): FactLine[] {
  const { system, cpu, memory, firmware, os, nixos } = facts
  const joined = (...texts: (string | undefined)[]) => texts.filter(text => text).join(' ')
  const gpus = facts.pci.filter(({ gpu }) => gpu)
  return [
    ['Product', joined(system?.vendor, system?.product)],
    ['Serial', system?.serial],
    ['UUID', system?.uuid],
    ['Virtualisation', system?.virtualisation === 'none' ? undefined : system?.virtualisation],
    [
      'CPU',
      joined(cpu?.model, cpu?.architecture, cpu?.threads === undefined ? '' : `${cpu.threads} threads`),
    ],
    ['Memory', memory?.total === undefined ? undefined : formatBytes(Number(memory.total))],
    ...facts.disks.map(
      ({ name, size, model, serial, transport, path }): FactLine => [
        'Disk',
        joined(
          name,
          size === undefined ? '' : formatBytes(Number(size)),
          transport,
          model,
          serial && `serial ${serial}`,
          path,
        ),
      ],
    ),
    ...facts.interfaces
      .filter(({ physical }) => physical)
      .map(
        ({ name, mac, carrier, speed, addresses, driver }): FactLine => [
          'Network',
          joined(
            name,
            mac,
            driver,
            carrier === undefined ? '' : carrier ? 'up' : 'no carrier',
            speed === undefined ? '' : `${speed} Mbit/s`,
            addresses.join(' '),
          ),
        ],
      ),
    ...gpus.map(
      ({ description, slot, vendorId, deviceId, driver }): FactLine => [
        'GPU',
        joined(description ?? `${vendorId}:${deviceId}`, slot, driver),
      ],
    ),
    [
      'Firmware',
      joined(
        firmware?.kind,
        firmware?.vendor,
        firmware?.version,
        firmware?.secureBoot === undefined ? '' : firmware.secureBoot ? 'secure boot on' : 'secure boot off',
        firmware?.tpmVersion && `TPM ${firmware.tpmVersion}`,
      ),
    ],
    ['Boot loader', firmware?.bootLoader],
    [
      'System',
      joined(os?.prettyName, nixos?.version && `NixOS ${nixos.version}`, os?.kernel && `kernel ${os.kernel}`),
    ],
    ['Generation', nixos?.generation === undefined ? undefined : String(nixos.generation)],
    ['Current system', nixos?.current],
    ...facts.warnings.map((warning): FactLine => ['Not read', warning]),
  ]
}

/** Facts line by line, `disks[0].size = 1000`: good for reading and for `grep`. */
function factsText(facts: Facts): string {
  return [...flatten(plainOf(FactsSchema, facts, 'omit'))]
    .map(([path, value]) => `${escapeText(path)} = ${escapeText(value)}\n`)
    .join('')
}

function historyText({ history }: GetMachineResponse, current: Facts | undefined): string {
  let newer = flatten(current ? plainOf(FactsSchema, current, 'omit') : {})
  if (history.length === 0) return 'none are kept\n'
  return history
    .toSorted((a, b) => (millisOf(b.at) ?? 0) - (millisOf(a.at) ?? 0))
    .map(({ at, facts }) => {
      const older = flatten(plainOf(FactsSchema, fromBinary(FactsSchema, facts), 'omit'))
      const paths = [...new Set([...older.keys(), ...newer.keys()])].filter(
        path => older.get(path) !== newer.get(path),
      )
      const lines = paths
        .slice(0, 50)
        .map(path => `  ${escapeText(path)}: ${side(older.get(path))} → ${side(newer.get(path))}\n`)
      const more = paths.length > 50 ? `  … and ${paths.length - 50} more\n` : ''
      newer = older
      return `after those of ${isoOf(millisOf(at)) ?? 'an unknown time'}\n${lines.join('') || '  nothing differs\n'}${more}`
    })
    .join('')
}

function side(value: string | undefined): string {
  return value === undefined ? '(not there)' : escapeText(value)
}
