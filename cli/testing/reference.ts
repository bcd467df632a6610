// The reference of the command, docs/reference/cli.md, made from the command itself. `npx vitest run cli/reference -u`
// writes it anew.
import type { CommandUnknownOpts } from '@commander-js/extra-typings'
import { systemClock } from '../../shared/clock.ts'
import { AS_BEFORE_FIELDS } from '../commands/bind-as-before.ts'
import { PROBLEM_FIELDS } from '../commands/check.ts'
import { CHANGE_FIELDS } from '../commands/diff.ts'
import { GENERATION_FIELDS } from '../commands/list-generations.ts'
import { REVISION_FIELDS } from '../commands/list-revisions.ts'
import { OPERATOR_FIELDS } from '../commands/operators.ts'
import { FAREWELL_FIELDS } from '../commands/remove-host.ts'
import { HEALTH_FIELDS } from '../commands/show-health.ts'
import { STATUS_FIELDS } from '../commands/show-status.ts'
import { TOKEN_FIELDS } from '../commands/tokens.ts'
import { UPGRADE_FIELDS } from '../commands/upgrade-cluster.ts'
import { VERIFY_FIELDS } from '../commands/verify.ts'
import { AUDIT_FIELDS } from '../commands/verify-audit.ts'
import { ACT_FIELDS } from '../output/act-listing.ts'
import {
  CERTIFICATE_FIELDS,
  CLUSTER_FIELDS,
  CLUSTER_HOST_FIELDS,
  SNAPSHOT_FIELDS,
} from '../output/cluster-listing.ts'
import { DRIFT_FIELDS } from '../output/drift-listing.ts'
import { EVENT_FIELDS } from '../output/event-listing.ts'
import { HISTORY_FIELDS } from '../output/history-listing.ts'
import { MACHINE_FIELDS } from '../output/machine-listing.ts'
import { OPERATION_FIELDS } from '../output/operation-listing.ts'
import { PLAN_FIELDS } from '../output/plan-listing.ts'
import { PLANNED_FIELDS } from '../output/planned-listing.ts'
import { LOCK_FIELDS, ROLLOUT_FIELDS, ROLLOUT_HOST_FIELDS } from '../output/rollout-listing.ts'
import { RESULT_FIELDS } from '../output/show-result.ts'
import { STANDING_FIELDS } from '../output/standing-listing.ts'
import { buildProgram } from '../program.ts'

/** What the fields of each listing mean. */
const MEANINGS: Readonly<Record<string, string>> = {
  health: 'what always has to be true and is not, as `muster health` shows it',
  previous: 'hash of the event before it; empty: it was the first of all',
  hash: 'SHA-256 of this event and of that one: what `muster audit verify` recomputes',
  action: '`apply`, `plan`, `rollback`, `reboot`, `restart`, `hold`, `resume` or `retry`',
  actor: 'who caused it: an operator, `local`, `coordinator`',
  address: 'where it was last seen from',
  admittedBy: '`token ID`, `rule GROUP` or `operator NAME`',
  agentVersion: 'version of its agent',
  appliedRevision: 'revision of the newest operation whose system it runs; 0: none',
  at: 'when',
  authorityPem: 'certificate of the authority that issues',
  badlySigned: 'whether the node’s signature on the outcome was not good; it is not kept then',
  booted: 'whether the machine was booted with it',
  boundBy: '`key`, `hardware`, `rule`, `hand`, or null',
  caPin: 'SHA-256 of the public key of the authority that issues',
  certificateExpires: 'end of its certificate, or null',
  change: '`added`, `removed` or `changed`',
  class: 'what kind of event',
  column: 'from 1; null: it concerns no line',
  commit: 'commit of the fleet directory; empty without git',
  confirmed: 'when the coordinator confirmed that it sees the machine after the change, or null',
  conditions: 'what a person must look at: objects of `class`, `reason`, `since`',
  created: 'when it was made',
  createdBy: 'who made it',
  current: 'whether it runs',
  delivered: 'whether the order reached the node',
  dirty: 'whether the tree differed from the commit',
  enrolmentAddress: 'host:port for new machines',
  ended: 'when it ended',
  expires: 'end of its use',
  fields: 'what differs: objects of `field`, `from`, `to`',
  file: 'path of the file',
  firstSeen: 'when it first asked',
  fleetAddress: 'host:port for machines and operators',
  fleetId: 'id of the fleet; empty before the first trust set',
  floor: 'machines that accepted it refuse revisions below this number',
  group: 'the group whose rule made it a host; empty: none',
  groups: 'how many groups it has targets for',
  held: 'null, or `reason` and `since` of the hold under which it obeys nothing but `resume`, `retry` and `plan`',
  highestRevision: 'highest revision the node accepted',
  host: 'name of the host; empty: none',
  hosts: 'how many hosts it has targets for',
  id: 'identifier',
  kind: '`host`, `group` or `cluster`',
  labels: 'object of texts',
  lastOperation: 'its newest operation, or null',
  lastSeen: 'when it last answered, or null',
  line: 'from 1; null: it concerns no line',
  machine: 'id of the machine',
  machines: 'ids of the machines it let in',
  machinesByState: 'object of numbers',
  manifestDigest: 'SHA-256 of the manifest: the identity of the revision',
  message: 'what is wrong, and what would be right',
  name: 'its name',
  notAfter: 'end of the certificate',
  nodeStatus:
    'with `show` what the node holds on to: `held`, `quarantined`, `program`, `bootLoader`, `oneShotBoot`, `currentSystem`, `generations`; else null',
  notBefore: 'when the order is sent at the earliest, or null',
  notes: 'what it does not do by itself, and the command that would',
  now: 'the clock of the coordinator',
  number: 'its number',
  online: 'whether it is connected',
  operationId: 'identifier of the operation',
  ordered: 'when it was ordered',
  orderedBy: 'by whom',
  outcome:
    'null while it runs; else `class`, `refusal`, `reason`, `phase`, `exitCode`, `ended`, `simulated`, `storePath`, `firstCause`, `runs`',
  path: 'the key, such as `hosts.olaf.address`; empty: the whole file',
  phase:
    '`verify`, `preflight`, `fetch`, `build`, `plan`, `drain`, `arm`, `activate`, `reboot`, `prove`, `confirm`, `promote`, `return`, `done`, or null',
  phases: 'objects of `phase`, `started`, `ended`, `exitCode`, `detail`, `sequence`',
  plan: 'with an operation’s id and with `plan` what it would change: `from`, `to`, `mode`, `rebootReasons`, lists of units, `closureBytes`, `freeBytes`, `warnings`, ...; else null',
  problems: 'what is wrong with the coordinator itself',
  product: 'what it says it is',
  profile: 'whether it is booted by default',
  published: 'when the coordinator took it',
  publishedBy: 'from whom',
  quarantined: 'how many systems failed on it and are not tried again',
  actedAs: 'the host that it says it acted as, where it is bound to none and could be that one',
  reason: 'one sentence',
  rebootReasons: 'why it wants a reboot',
  removed: 'whether it is refused now',
  retryOf: 'the operation that it tries again; empty: none',
  revision: 'number of the revision',
  revoked: 'whether it was ended by hand',
  serial: 'its serial number, as it says',
  rollback: 'of a rollback whose system is meant: `operationId`, `before`; else null',
  severity:
    '`error`, `warning` or `note`: what the directory does not do by itself, with the command that does',
  signedOutcome:
    'with an operation’s id the outcome under the node’s signature: `statement`, `signature`; else null',
  signers: 'ids of the keys that signed',
  simulated: 'whether its hardware is made up',
  started: 'when the coordinator started',
  state: '`pending`, `enrolled`, `active`, `rejected`, `evicted` or `banned`',
  storePath: 'the system',
  treeDigest: 'SHA-256 of the packed tree',
  treeLength: 'its length in bytes',
  trust: 'the trust set it has: `number`, `digest`, `firstUse`; or null',
  trustNumber: 'number of the trust set in force',
  trustPin: 'SHA-256 of the trust set in force',
  unboundHosts: 'hosts of the newest revision without a machine',
  waiting: 'hosts that wait in rollouts for more than their turn, or for one to be begun',
  used: 'how many machines it let in',
  uses: 'how many machines it lets in',
  verified: 'whether all of it holds',
  version: 'version of the coordinator',
}

type Meanings = Readonly<Record<string, string>>

/** What fields mean in listings of clusters, where a name has another meaning elsewhere. */
const OF_CLUSTERS: Meanings = {
  act: 'what was asked for',
  asked: 'when it was asked for',
  askedBy: 'who asked',
  authority: 'SHA-256 of the public key of its certificate authority; empty: not known yet',
  class: 'why it was not done, in a word; empty: it was done, or is not over',
  cluster: 'the cluster',
  cordonedByOthers: 'whether a server saw its node cordoned by somebody else than us',
  cordonedBy: 'the act whose cordon is on its node; empty: none of ours',
  distribution: '`k3s`, `k0s`, `kubernetes` or `components`',
  done: 'whether it was done; null while it is not over',
  ended: 'when it was over, or null',
  executor: 'the host that does it; empty: not chosen yet',
  firstServer: 'the host at which the others join; empty: none',
  healthyVoters: 'how many of them are healthy',
  host: 'name of the host; empty: none in particular',
  hosts:
    'how many hosts belong to it; with `cluster show` they themselves, with `cluster adopt` the names of those adopted',
  joined: 'how many of them have joined; of a host whether it has',
  machine: 'id of the machine it is bound to; empty: none',
  reason: 'what it waits for, or what came of it',
  ready:
    'whether a server saw its node Ready a short while ago; of one without a node: whether its own API server answered',
  withoutNode: 'whether it is a server that has joined and has no node',
  role: '`server`, `worker` or `server-and-worker`',
  standing: '`new`, `founding`, `founded` or `to-adopt`',
  text: 'what its machine had to say, or null',
  version: 'the Kubernetes that runs there; empty: none, or not known',
  voters: 'voters of the datastore; 0: not known',
  waitsFor: 'what it waits for, one sentence each',
}
const OF_SNAPSHOTS: Meanings = {
  bytes: 'how big it is',
  host: 'the server it lies on',
  made: 'when it was made',
  path: 'its file or folder there, for root alone',
}
const OF_HISTORY: Meanings = {
  at: 'when the newer facts came',
  notBefore: 'when the facts before came: it happened in between',
  part: '`system`, `cpu`, `memory`, `module`, `disk`, `interface`, `virtual-interface`, `pci`, `firmware`, `os`, `nixos` or `ssh`',
  name: 'which of several, such as a disk’s serial number; empty: there is one',
  field: 'the field; empty: the part as a whole came or went',
  before: 'the value before, or null: not there or not known',
  after: 'the value after, or null: not there or not known',
  hardware: 'whether it is about the hardware',
}
const OF_CERTIFICATES: Meanings = {
  authority: 'whether it is an authority’s own',
  host: 'the host it is on',
  path: 'its file',
  subject: 'its subject',
}
const OF_UPGRADES: Meanings = {
  from: 'what runs there, or null',
  role: '`server` or `worker`',
  state:
    '`moves`, `there`, `new` (has not joined, and gets its Kubernetes), `unknown` (what runs there) or `away`',
  to: 'where it goes',
  turn: 'hosts of the same number may go together; 0: it has no turn',
  waits: 'with `--dry-run` what would hold it as things stand',
}
const OF_FAREWELLS: Meanings = {
  state: '`done`, `needless` or `left`',
  step: '`drain`, `leave`, `wipe` or `evict`',
  why: 'why, or what it does',
}

const OF_DRIFT: Meanings = {
  host: 'its host; empty: none',
  machine: 'its id',
  state: '`in-sync`, `behind`, `reboot-pending`, `drifted`, `moving`, `unmanaged` or `unknown`',
  changedBy:
    '`operation` (ours), `rebuild-by-hand`, `rollback-by-hand`, `test-by-hand`, `reboot`, `nobody` or `unknown`',
  reason: 'one sentence',
  remedy: 'the command that would put it right; empty: nothing is to be done',
  booted: 'store path of the system that was booted',
  current: 'store path of what runs',
  profile: 'store path of what the next boot starts',
  wantedRevision:
    'the revision that is wanted: its pin, else what the last rollout that named it says, else the newest; 0: none, or what ran before',
  wanted: 'its system; empty: the machine builds it',
  operationId: 'the newest change of ours that got there',
  reachedRevision: 'its revision',
  told: 'when the machine told what it runs',
}

const OF_HEALTH: Meanings = {
  class:
    '`nothing-succeeds`, `silent`, `flapping`, `certificate`, `never-active`, `stale-cordon`, `no-outcome`, `lost-rollout`, `store-older`, `cluster-certificate`, `revision-untrusted`, `authority-gone` or `coordinator` (what is wrong with it itself: a revision that expires, an authority that ends, a full disk)',
  machine: 'the machine; empty: none',
  host: 'the host; empty: it is about the fleet',
  reason: 'one sentence',
  since: 'since when',
  remedy: 'what would put it right',
}

const OF_AUDIT: Meanings = {
  events: 'how many events were recomputed',
  oldest: 'id of the oldest that is kept',
  newest: 'id of the newest',
  newestHash: 'its hash',
  agree: 'hosts whose links are all in the record',
  tellNothing: 'hosts that were shown none yet, or only ones that are older than what is kept',
  silent: 'hosts that did not answer, and why',
  problems: 'what shows that the record was changed or cut; empty: it is whole',
}

const OF_ROLLOUTS: Meanings = {
  action: '`apply`, `rollback`, `reboot`, `upgrade` or an act of clusters',
  after: 'rollouts that it waits for',
  at: 'when',
  by: 'who',
  change:
    'what the revision changes there, by the newest plan: objects as in `plan`, with `moreUnits` that are not listed; or null',
  cluster: 'the cluster; empty: none',
  counts: 'how many hosts are `waiting`, `moving`, `done`, `failed`, `left`',
  drained: 'whether its pods are moved off before, or null: only its plan would tell',
  ended: 'when it was over, or null',
  expectedEnd: 'when it would be over if everything went on as it has, or null',
  hosts: 'its hosts in the order of their turns; only with one rollout',
  id: 'identifier of the rollout',
  kind: '`lock` or `pin`',
  nextVersion: 'the Kubernetes that it would run; empty: the rollout brings none',
  noPlan: 'why there is no plan of it; empty: there is one, or it needs none',
  operationId: 'the operation of its newest step that is one; empty: none',
  outcome: 'how that ended, or null',
  overridden: 'gates that were opened for it',
  phase: 'the phase that the operation is in, or null',
  reason: 'why it stands so; empty: there is nothing to say',
  revision: 'where the hosts go, or are kept; 0 or null: nowhere',
  reverts: 'the rollout that it takes back; empty: none',
  role: '`server`, `worker`, `server+worker` or `none`',
  settings: 'settings in force',
  since: 'since when it stands so',
  size: 'how many hosts it has',
  started: 'when it began',
  startedBy: 'who began it',
  state:
    'of a rollout `running`, `paused`, `ending`, `succeeded`, `failed` or `aborted`; of a host `waiting`, `moving`, `done`, `failed` or `left`',
  step: '`prefetch`, `snapshot`, `drain`, the action, `prove`, `soak` or `uncordon`',
  steps: 'what would be done, in order',
  until: 'when it ends, or null',
  version: 'the Kubernetes that it runs; empty: not known, or none',
  waits: 'what holds it: objects of `gate`, `reason`, `opens`, `since`; with `--dry-run` texts',
  wave: 'its place in the order; with `--dry-run` hosts of one number may go together, 0: its turn does not come as things stand',
  why: 'why, in the operator’s words',
}

const OF_STANDINGS: Meanings = {
  ...OF_ROLLOUTS,
  action: 'what is to be done to it',
  behind: 'with `pending` the rollout because of which it waits; empty: none',
  host: 'name of the host',
  pending: 'no rollout has it: one is begun by itself when nothing holds it any more',
  rollout:
    'the rollout that has it; with `pending` the one that it would catch up with, or be taken back from',
  state: '`waiting` or `moving`; with `pending` `left`',
  step: 'the step that runs, or is the next; empty with `pending`',
  waits: 'what holds it: objects of `gate`, `reason`, `opens`, `since`',
}

const OF_STATUS: Meanings = {
  machines:
    'every machine, objects as `machines` writes them; `-o csv` has no such field: `muster machines -o csv` lists them',
  online: 'how many machines are connected',
}

const OF_VERIFY: Meanings = {
  fault: 'what does not hold, one sentence; empty: all of it holds',
  outcome: 'the class of the outcome, or null: its signature is not good',
  reason: 'what the machine gave as the reason of the outcome, or null: its signature is not good',
}

const OF_AS_BEFORE: Meanings = {
  host: 'the host that it says it acted as; empty where nobody can be bound by that',
  bound: 'it was bound to that host',
  reason: 'why nobody is bound by it; else empty',
}

const OF_RESULTS: Meanings = {
  accepted: 'what is let be, one sentence each',
  address: 'where the coordinator is reached',
  bytes: 'its length',
  caPins: 'authorities that count',
  cacheFiles: 'how many files of the binary cache were written',
  confirmed: 'for how many machines',
  directory: 'the fleet directory',
  file: 'the file; null: none was written',
  fleetId: 'identifier of the fleet',
  folder: 'the profile',
  host: 'the host',
  id: 'identifier of the token',
  issuing: 'the authority that issues',
  keys: 'how many keys may sign',
  kind: '`lock` or `pin`',
  manifestDigest: 'SHA-256 of the manifest that is in force, or was signed',
  name: 'its name',
  notAfter: 'end of the certificate',
  number: 'number of the revision',
  recoveryKey: 'where the recovery key was written',
  removed: 'true: it is gone',
  replacedKey: 'the key to destroy once every machine has the new set; null: none',
  revision: 'where the host is kept',
  signingKey: 'the file of the signing key',
  summary: 'one sentence',
  threshold: 'how many of them must sign',
  treeDigest: 'SHA-256 of the packed tree',
  trustFile: 'the file of the trust sets',
  trustNumber: 'number of the trust set in force',
  trustPin: 'its SHA-256',
  unchanged: 'whether the newest revision said this already',
  until: 'when it ends',
  version: 'the version',
  why: 'why, in the operator’s words',
  withKey: 'whether the profile holds a private key',
}

const LISTINGS: readonly (readonly [
  commands: string,
  fields: readonly string[],
  meanings?: Meanings | undefined,
])[] = [
  ['machines`, `pending`, `approve`, `reject`, `evict`, `ban`, `release`, `bind', MACHINE_FIELDS],
  ['bind --as-before', AS_BEFORE_FIELDS, OF_AS_BEFORE],
  ['status', STATUS_FIELDS, OF_STATUS],
  ['operations`, `apply`, `rollback`, `reboot`, `restart`, `hold`, `resume`, `retry', OPERATION_FIELDS],
  ['plan', PLAN_FIELDS],
  ['generations', GENERATION_FIELDS],
  ['verify', VERIFY_FIELDS, OF_VERIFY],
  ['revisions', REVISION_FIELDS],
  ['history', HISTORY_FIELDS, OF_HISTORY],
  ['events', EVENT_FIELDS],
  ['drift', DRIFT_FIELDS, OF_DRIFT],
  ['health', HEALTH_FIELDS, OF_HEALTH],
  ['audit verify', AUDIT_FIELDS, OF_AUDIT],
  ['token list', TOKEN_FIELDS],
  ['operator list', OPERATOR_FIELDS],
  ['clusters`, `cluster show`, `cluster adopt', CLUSTER_FIELDS, OF_CLUSTERS],
  ['cluster show` in `hosts', CLUSTER_HOST_FIELDS, OF_CLUSTERS],
  [
    'cordon`, `drain`, `uncordon`, `leave`, `rejoin`, `cluster restore`, `cluster rotate`, `cluster manifests`, and `cluster show` in `acts',
    ACT_FIELDS,
    OF_CLUSTERS,
  ],
  ['cluster snapshot`, `cluster snapshots', SNAPSHOT_FIELDS, OF_SNAPSHOTS],
  ['cluster certificates', CERTIFICATE_FIELDS, OF_CERTIFICATES],
  ['cluster upgrade', UPGRADE_FIELDS, OF_UPGRADES],
  ['remove', FAREWELL_FIELDS, OF_FAREWELLS],
  ['rollout start`, `rollout list`, `rollout show`, `rollout watch', ROLLOUT_FIELDS, OF_ROLLOUTS],
  ['rollout show` in `hosts', ROLLOUT_HOST_FIELDS, OF_ROLLOUTS],
  [
    'status` and `show` in `waiting`, `rollout show` and `rollout watch` in `pending',
    STANDING_FIELDS,
    OF_STANDINGS,
  ],
  ['rollout start --dry-run', PLANNED_FIELDS, OF_ROLLOUTS],
  ['locks', LOCK_FIELDS, OF_ROLLOUTS],
  ...Object.entries(RESULT_FIELDS).map(([command, fields]) => [command, fields, OF_RESULTS] as const),
  ['check', PROBLEM_FIELDS],
  ['diff', CHANGE_FIELDS],
]

const INTRO = `# The command \`muster\`

Tables are for people; \`-o json\`, \`yaml\` and \`csv\` are for programs. Exit codes: [exit-codes.md](../exit-codes.md).

## Reaching the coordinator

In this order: \`--socket PATH\` or \`--profile NAME\`; \`$MUSTER_SOCKET\` or \`$MUSTER_PROFILE\`; the socket of a coordinator on
this machine (\`/var/lib/muster-coordinator/coordinator.sock\`, else \`/run/muster-coordinator/coordinator.sock\`), which only
root may use; the one operator profile that is there. A profile is a folder below \`operators/\` in the configuration, as
\`muster operator add\` writes it, and speaks mutual TLS: the coordinator must show a certificate of the profile's \`ca.pem\`.

## Environment

| variable | meaning |
| --- | --- |
| \`MUSTER_SOCKET\` | socket of the coordinator |
| \`MUSTER_PROFILE\` | name of an operator profile |
| \`MUSTER_CONFIG_HOME\` | the configuration, instead of \`$XDG_CONFIG_HOME/muster\` or \`~/.config/muster\` |
| \`NO_COLOR\` | when set to anything: no colour. There is none where the output is no terminal |
| \`COLUMNS\` | width for help where the output is no terminal |

## Files

| below the configuration | holds |
| --- | --- |
| \`fleets/ID/signing.key\` | the operator's Ed25519 signing key (0600; refused when others may read it) |
| \`fleets/ID/signing.key.N\` | the key that was replaced after trust set N |
| \`fleets/ID/recovery.key\` | the recovery key, until it is moved to where it is offline |
| \`fleets/ID/trust.bin\` | all trust sets that are known here |
| \`fleets/ID/last-revision.bin\` | the newest revision seen from here: nothing older is followed unasked |
| \`operators/NAME/\` | \`operator.json\`, \`key.pem\` (0600), \`public.pem\`, \`certificate.pem\`, \`ca.pem\` |

## Output for programs

\`-o json\` writes an array of objects (one object for a single thing), \`-o yaml\` the same in YAML, \`-o csv\` a line of field
names and one line each, in which lists and objects are JSON texts. Times are ISO 8601 in UTC, sizes bytes, what is not
known is null (empty in CSV). \`-o wide\` is the table with more columns. A table fits the terminal it is shown on:
columns that matter less are left out where reasons would have no room, long reasons go on below, or where there is little room on lines of their own, what has no room even so is cut at the end
of the line, and store paths are their names. With \`-o wide\`, or where the output is no terminal, nothing is left out or cut. Control and bidi characters in texts of machines are
escaped in all of them; JSON and YAML decode to the same text, CSV keeps the escapes. Remarks go to standard error.

`

/** The whole page. */
export function renderReference(): string {
  const fields = LISTINGS.map(
    ([commands, names, meanings]) =>
      `### Fields of \`${commands}\`\n\n| field | meaning |\n| --- | --- |\n${names
        .map(name => `| \`${name}\` | ${meanings?.[name] ?? meaningOf(name)} |\n`)
        .join('')}\n`,
  ).join('')
  const program = programForHelp()
  const globals = program.options.map(({ flags, description }) => row(flags, description)).join('')
  return `${INTRO}${fields}## Options of every command\n\n| option | meaning |\n| --- | --- |\n${globals}\n## Commands\n\n${walk(
    program,
  )
    .map(({ path, command }) => section(path, command))
    .join('\n')}`
}

function meaningOf(name: string): string {
  const meaning = MEANINGS[name]
  if (meaning === undefined) throw new Error(`the field ${name} has no meaning in the reference`)
  return meaning
}

export function programForHelp(out: (text: string) => void = () => {}): CommandUnknownOpts {
  return buildProgram({
    io: {
      out,
      err: () => {},
      outIsTerminal: false,
      errIsTerminal: false,
      columns: 120,
      screen: { columns: 120, rows: 24 },
      onResize: () => () => {},
      readerGone: new AbortController().signal,
      colour: false,
    },
    settings: { socket: undefined, profile: undefined, configHome: '/', noColour: true, columns: undefined },
    signal: new AbortController().signal,
    clock: systemClock,
  })
}

interface Found {
  readonly path: string
  readonly command: CommandUnknownOpts
}

/** All commands that do something themselves, in the order of the help. */
export function walk(command: CommandUnknownOpts, path = 'muster'): Found[] {
  const visible = command.commands.filter(sub => command.createHelp().visibleCommands(command).includes(sub))
  return visible.flatMap(sub => {
    const below = `${path} ${sub.name()}`
    const deeper = walk(sub, below)
    return deeper.length > 0 ? deeper : [{ path: below, command: sub }]
  })
}

function section(path: string, command: CommandUnknownOpts): string {
  const usage = command.registeredArguments
    .map(argument => {
      const name = `${argument.name()}${argument.variadic ? '...' : ''}`
      return argument.required ? ` <${name}>` : ` [${name}]`
    })
    .join('')
  const args = command.registeredArguments
    .map(argument => row(argument.name(), `${argument.description}${choices(argument.argChoices)}`))
    .join('')
  const options = command.options
    .map(option =>
      row(
        option.flags,
        `${option.description}${choices(option.argChoices)}${fallback(option)}${option.mandatory ? ' (required)' : ''}`,
      ),
    )
    .join('')
  const table = (title: string, rows: string) =>
    rows === '' ? '' : `\n| ${title} | meaning |\n| --- | --- |\n${rows}`
  return `### \`${path}${usage}\`\n\n${command.description()}\n${table('argument', args)}${table('option', options)}`
}

function fallback({
  defaultValue,
  defaultValueDescription,
}: {
  defaultValue?: unknown
  defaultValueDescription?: string | undefined
}): string {
  if (defaultValueDescription !== undefined) return ` (${defaultValueDescription})`
  return typeof defaultValue === 'string' ? ` (${defaultValue})` : ''
}

function choices(values: readonly string[] | undefined): string {
  return values ? `: ${values.join(', ')}` : ''
}

function row(name: string, meaning: string): string {
  return `| \`${name.replaceAll('|', '\\|')}\` | ${meaning.replaceAll('|', '\\|')} |\n`
}
