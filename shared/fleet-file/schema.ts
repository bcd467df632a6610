import { distributions } from '../kubernetes/distributions.ts'
import { checkNameTemplate } from '../revision/expand-name.ts'
import * as bounds from '../revision/safety-bounds.ts'
import * as rollout from '../rollout/rollout-bounds.ts'
import { freeTable } from './free-value.ts'
import { amount, duration, size, windowText } from './quantity-types.ts'
import { table } from './read-table.ts'
import * as types from './text-types.ts'
import { integer, type Key, listOf, mapOf, oneOf, text } from './value-type.ts'

// One table of keys: the check reads it, and the reference in docs/reference/fleet-file.md is compared with it.

export const roles = ['server', 'worker', 'server+worker', 'none'] as const
export const confirmations = ['coordinator', 'local'] as const
export const rebootPolicies = ['never', 'required', 'whenever-changed'] as const
export const trials = ['auto', 'none'] as const
export const endpointKeepers = ['outside', 'servers'] as const
export const systems = ['x86_64-linux', 'aarch64-linux'] as const

export const defaultExpiresDays = 90

/** Infers the type of each key's value while keeping the shape of a Key. */
function key<T>(line: Key<T>): Key<T> {
  return line
}

const notEmpty = (value: string) =>
  value.trim() === '' ? 'it is empty, which would select nothing; write a rule over facts' : undefined

const settingKeys = {
  role: key({
    type: oneOf(...roles),
    fallback: '"none"',
    example: '"worker"',
    meaning: 'What the machine does in its cluster. Every role but none needs `cluster`.',
  }),
  cluster: key({
    type: types.nameText,
    fallback: 'no cluster',
    example: '"home"',
    meaning: 'The cluster it belongs to, one of `[clusters]`.',
  }),
  'prefix-length': key({
    type: integer('number from 1 to 128', 1, types.prefixMost),
    fallback: 'none; needed with a fixed address',
    example: '24',
    meaning: 'Length of the network part of a fixed `address`.',
  }),
  gateway: key({
    type: types.ipText,
    fallback: 'none',
    example: '"10.0.100.1"',
    meaning: 'Default gateway with a fixed `address`; must lie in the same network.',
  }),
  nameservers: key({
    type: listOf(types.ipText, 'list of IP addresses'),
    fallback: '[]',
    example: '["10.0.100.1"]',
    meaning: 'Name servers, in order.',
  }),
  interface: key({
    type: types.interfaceText,
    fallback: 'the machine chooses',
    example: '"enp0s20f0"',
    meaning: 'The network interface that `address` is for.',
  }),
  labels: key({
    type: mapOf('table of text', types.labelKeyProblem, types.labelText),
    fallback: '{}',
    example: '{ rack = "a" }',
    meaning: 'Labels for selectors. Merged key by key.',
  }),
  system: key({
    type: oneOf(...systems),
    fallback: '"x86_64-linux"',
    example: '"aarch64-linux"',
    meaning: 'The platform it is built for.',
  }),
  nixpkgs: key({
    type: types.flakeInputText,
    fallback: '"nixpkgs"',
    example: '"nixpkgs-stable"',
    meaning: 'The input of `flake.nix` that its packages come from.',
  }),
  users: key({
    type: mapOf(
      'table of users',
      types.userNameProblem,
      table('a user', {
        keys: key({
          type: listOf(types.sshKeyText, 'list of SSH public keys', 1),
          fallback: 'required',
          required: true,
          example: '["ssh-ed25519 AAAA… ada"]',
          meaning: 'Public keys that may log in as this administrator.',
        }),
      }),
      'NAME',
    ),
    fallback: '{}',
    example: '{ ada = { keys = ["ssh-ed25519 AAAA… ada"] } }',
    meaning: 'Administrators by login name. Merged name by name.',
  }),
  extra: key({
    type: freeTable,
    fallback: '{}',
    example: '{ anything = "reaches the Nix modules" }',
    meaning: 'Anything; reaches the Nix modules of the host unread. Merged key by key at every depth.',
  }),
  gates: key({
    type: listOf(types.nameText, 'list of gates', 0, bounds.MAX_GATES),
    fallback: '[]',
    example: '["web"]',
    meaning: 'What must be healthy after a change, each one of `[gates]`; else the machine goes back.',
  }),
  soak: key({
    type: duration(bounds.SAFETY_BOUNDS.soakMs, 'from 0s to 1h'),
    fallback: '"30s"',
    example: '"30s"',
    meaning: 'How long all gates must hold before a change counts.',
  }),
  'confirm-within': key({
    type: duration(bounds.SAFETY_BOUNDS.confirmWithinMs, 'from 5s to 6h'),
    fallback: '"5m"',
    example: '"5m"',
    meaning:
      'How long a change may stay unconfirmed before the machine goes back; at least 5 s more than `soak`.',
  }),
  confirm: key({
    type: oneOf(...confirmations),
    fallback: '"coordinator"',
    example: '"local"',
    meaning: 'Whether the coordinator must answer for a change, or the gates alone decide.',
  }),
  reboot: key({
    type: oneOf(...rebootPolicies),
    fallback: '"never"',
    example: '"required"',
    meaning:
      'Whether a change may reboot the machine: for what cannot be reached otherwise, or also for a new kernel and the like.',
  }),
  trial: key({
    type: oneOf(...trials),
    fallback: '"auto"',
    example: '"none"',
    meaning:
      '`none` where the boot loader cannot boot a system once: a new one is then the boot default before it is proved.',
  }),
  'tolerated-units': key({
    type: listOf(types.unitText, 'list of units', 0, bounds.MAX_TOLERATED_UNITS),
    fallback: '[]',
    example: '["backup.service"]',
    meaning:
      'Units that may fail: a change that fails them is degraded and stays. `user@NAME.service` is the activation of the user NAME.',
  }),
  windows: key({
    type: listOf(windowText, 'list of maintenance windows', 1, rollout.MAX_WINDOWS),
    fallback: 'those of `[rollout]`',
    example: '["sat sun 22:00-04:00 Europe/Berlin"]',
    meaning: 'When rollouts may change it: days, from when to when, time zone. Without days: every day.',
  }),
  'drain-limit': key({
    type: duration(rollout.ROLLOUT_BOUNDS.drainLimitMs, 'from 1s to 24h'),
    fallback: 'that of `[rollout]`',
    example: '"10m"',
    meaning: 'How long pods are waited for when its node is drained; then the step has failed.',
  }),
}

const ownSettingKeys = {
  config: key({
    type: types.configText,
    fallback: 'made by the library from this file',
    example: '"nixosConfigurations.nas"',
    meaning: 'An existing configuration of `flake.nix` that is taken as it is.',
  }),
  os: key({
    type: oneOf('external'),
    fallback: 'NixOS',
    example: '"external"',
    meaning:
      'Somebody else manages its system, and Muster leaves that alone. With a `role` its cluster must have `life = "apart"`.',
  }),
  after: key({
    type: listOf(types.nameText, 'list of hosts', 1, rollout.MAX_AFTER),
    fallback: 'none',
    example: '["database"]',
    meaning: 'Hosts that a rollout must have done before it begins with this one.',
  }),
}

export const defaultsKeys = {
  ...settingKeys,
  address: key({
    type: types.dhcpOnlyText,
    fallback: '"dhcp"',
    example: '"dhcp"',
    meaning: 'A fixed address is given to single hosts only.',
  }),
}

export const groupKeys = {
  ...settingKeys,
  ...ownSettingKeys,
  address: defaultsKeys.address,
  admit: key({
    type: text('rule', notEmpty),
    fallback: 'admits nobody',
    example: `"facts.system.product == 'N100'"`,
    meaning: 'CEL rule over `facts`: machines that match become hosts of this group. Never for servers.',
  }),
  name: key({
    type: text('name template', checkNameTemplate),
    fallback: 'needed with `admit`',
    example: '"edge-{serial}"',
    meaning: 'How admitted machines are named; `{serial}`, `{uuid}`, `{mac}` and `{machine}` are filled in.',
  }),
}

export const hostKeys = {
  ...settingKeys,
  ...ownSettingKeys,
  address: key({
    type: types.hostAddressText,
    fallback: '"dhcp"',
    example: '"10.0.100.2"',
    meaning: 'Its fixed address, or "dhcp".',
  }),
  group: key({
    type: types.nameText,
    fallback: 'no group',
    example: '"edge"',
    meaning: 'The group whose settings it takes where it has none of its own.',
  }),
  disk: key({
    type: table('table', {
      serial: key({
        type: types.serialText,
        fallback: 'required',
        required: true,
        example: '"S4EVNX0M123456"',
        meaning:
          'Binds the host to the machine that has a disk with this serial; it is installed there and only there.',
      }),
    }),
    fallback: 'not bound by a disk',
    example: '{ serial = "S4EVNX0M123456" }',
    meaning: 'The disk that tells the machine.',
  }),
  machine: key({
    type: types.digestText,
    fallback: 'not bound by a key',
    example: '"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"',
    meaning: 'Binds the host to the machine with this key. A server that hands out join secrets is named so.',
  }),
  serial: key({
    type: types.serialText,
    fallback: 'not bound by it',
    example: '"PF3XQ1AB"',
    meaning: 'Binds the host to the machine with this system serial.',
  }),
  uuid: key({
    type: types.uuidText,
    fallback: 'not bound by it',
    example: '"4c4c4544-0051-3610-8052-b4c04f4d4e32"',
    meaning: 'Binds the host to the machine with this system UUID.',
  }),
  mac: key({
    type: types.macText,
    fallback: 'not bound by it',
    example: '"52:54:00:12:34:56"',
    meaning: 'Binds the host to the machine that has an interface with this permanent address.',
  }),
}

export const clusterKeys = {
  distribution: key({
    type: oneOf(...distributions),
    fallback: 'required',
    required: true,
    example: '"k3s"',
    meaning:
      'Which Kubernetes it is; `kubernetes` is the module of nixpkgs, `components` runs the parts one by one.',
  }),
  version: key({
    type: types.versionText,
    fallback: "the host closure's",
    example: '"1.34.3"',
    meaning: 'The version all members shall run.',
  }),
  life: key({
    type: oneOf('apart', 'with-system'),
    fallback: '"with-system"',
    example: '"apart"',
    meaning: 'Whether Kubernetes has a profile of its own and moves alone, or changes with the system.',
  }),
  endpoint: key({
    type: types.endpointText,
    fallback: 'the address of a live server',
    example: '"10.0.100.9"',
    meaning: 'The address or name under which the servers are reached together.',
  }),
  'endpoint-keeper': key({
    type: oneOf(...endpointKeepers),
    fallback: '"outside"',
    example: '"servers"',
    meaning:
      'Who answers at `endpoint`: something outside of Muster, or the servers, which keep it among themselves as a virtual address.',
  }),
  'node-interface': key({
    type: types.interfaceText,
    fallback: 'the interface of the default route',
    example: '"tailscale0"',
    meaning: 'The interface whose address the nodes use among themselves.',
  }),
  'pod-cidr': key({
    type: types.networkText,
    fallback: "the distribution's",
    example: '"10.244.0.0/16"',
    meaning: 'The network of the pods; each node gets a part of it. It cannot be changed later.',
  }),
  'service-cidr': key({
    type: types.networkText,
    fallback: "the distribution's",
    example: '"10.96.0.0/12"',
    meaning: 'The network of the services. It cannot be changed later.',
  }),
  after: key({
    type: listOf(types.nameText, 'list of clusters', 1, rollout.MAX_FOLLOWS),
    fallback: 'none: clusters go independently of each other',
    example: '["staging"]',
    meaning: 'Clusters that a rollout must have done before it begins with this one.',
  }),
  gates: key({
    type: listOf(types.nameText, 'list of gates with `job`', 0, bounds.MAX_JOB_GATES),
    fallback: 'none',
    example: '["smoke"]',
    meaning:
      'Jobs that a server runs before each step that disrupts a host of the cluster, each one of `[gates]`.',
  }),
}

export const rolloutKeys = {
  'max-unavailable': key({
    type: amount,
    fallback: `"${rollout.ROLLOUT_DEFAULTS.maxUnavailable}"`,
    example: '"10%"',
    meaning:
      'How many hosts of a cluster, or outside of all clusters, may be away at once, those included that are away by themselves: a number or a share, of which at least one.',
  }),
  canaries: key({
    type: listOf(types.nameText, 'list of hosts', 1, rollout.MAX_CANARIES),
    fallback: 'none',
    example: '["n4"]',
    meaning: 'Hosts that go first. What failed or fell silent on one of them keeps the others from going.',
  }),
  'canary-size': key({
    type: amount,
    fallback: 'none besides `canaries`',
    example: '"5%"',
    meaning: 'How many hosts more go first, chosen by the order of their names among the workers.',
  }),
  'canary-soak': key({
    type: duration(rollout.ROLLOUT_BOUNDS.soakMs, 'from 0s to 7d'),
    fallback: 'as `soak`',
    example: '"10m"',
    meaning: 'How long every canary must stay well before others go.',
  }),
  soak: key({
    type: duration(rollout.ROLLOUT_BOUNDS.soakMs, 'from 0s to 7d'),
    fallback: '"1m"',
    example: '"2m"',
    meaning: 'How long a host must stay well, after its change was proved, before another goes in its place.',
  }),
  'on-failure': key({
    type: oneOf(...rollout.failurePolicies),
    fallback: `"${rollout.ROLLOUT_DEFAULTS.onFailure}"`,
    example: '"continue"',
    meaning:
      'What a failed host means: nothing more is begun; the others go on, up to `max-failures`; or what was changed is taken back, which an apply alone can be: for other actions it means `stop`.',
  }),
  'max-failures': key({
    type: integer(
      'number from 1 to 10000',
      rollout.ROLLOUT_BOUNDS.maxFailures.least,
      rollout.ROLLOUT_BOUNDS.maxFailures.most,
    ),
    fallback: 'never',
    example: '3',
    meaning: 'With `on-failure = "continue"`: at so many failed hosts nothing more is begun.',
  }),
  spread: key({
    type: text('label', types.labelKeyProblem),
    fallback: 'hosts are not spread',
    example: '"rack"',
    meaning: 'A label: no two hosts with the same value are away at once.',
  }),
  'silent-percent': key({
    type: integer(
      'number from 1 to 100',
      rollout.ROLLOUT_BOUNDS.silentPercent.least,
      rollout.ROLLOUT_BOUNDS.silentPercent.most,
    ),
    fallback: String(rollout.ROLLOUT_DEFAULTS.silentPercent),
    example: '20',
    meaning:
      'When more than this share of the fleet falls silent at once, nothing new is begun; what is under way goes to its end.',
  }),
  'ask-gates': key({
    type: oneOf(...rollout.gateAskings),
    fallback: 'before each step, of hosts that have gates',
    example: '"never"',
    meaning:
      'Whether the gates of a host, scripts included, are asked on it before each step that disrupts it, and it waits until all are healthy. With "before-each-step" also where the newest revision has none for it.',
  }),
  'drain-limit': key({
    type: duration(rollout.ROLLOUT_BOUNDS.drainLimitMs, 'from 1s to 24h'),
    fallback: '"5m"',
    example: '"10m"',
    meaning: 'How long pods are waited for when a node is drained; then the step has failed.',
  }),
  windows: key({
    type: listOf(windowText, 'list of maintenance windows', 1, rollout.MAX_WINDOWS),
    fallback: 'at any time',
    example: '["22:00-04:00 Europe/Berlin"]',
    meaning:
      'When hosts may be changed that have no windows of their own. Fetching and building is done at any time.',
  }),
}

export const gateKeys = {
  units: key({
    type: listOf(types.unitText, 'list of units', 1, bounds.MAX_GATE_UNITS),
    fallback: 'asks for something else',
    example: '["nginx.service"]',
    meaning: 'Units of systemd that must be active.',
  }),
  http: key({
    type: types.probeUrlText,
    fallback: 'asks for something else',
    example: '"http://127.0.0.1:8080/health"',
    meaning: 'A URL that must answer; redirects are not followed, the authorities are those of the machine.',
  }),
  status: key({
    type: integer('number from 100 to 599', 100, 599),
    fallback: 'any from 200 to 399',
    example: '200',
    meaning: 'With `http`: the status that it must answer with.',
  }),
  contains: key({
    type: types.containsText,
    fallback: 'any body',
    example: '"ok"',
    meaning: 'With `http`: what the first MiB of the body must contain.',
  }),
  tcp: key({
    type: types.hostPortText,
    fallback: 'asks for something else',
    example: '"127.0.0.1:5432"',
    meaning: 'What must take a connection, an IPv6 address in brackets.',
  }),
  disk: key({
    type: types.diskPathText,
    fallback: 'asks for something else',
    example: '"/var/lib"',
    meaning: 'A folder on whose file system `free` must be free.',
  }),
  free: key({
    type: size(bounds.MAX_FREE_BYTES),
    fallback: 'needed with `disk`',
    example: '"2 GiB"',
    meaning: 'With `disk`: how much; B, KiB, MiB, GiB or TiB.',
  }),
  reach: key({
    type: listOf(types.reachHostText, 'list of addresses or names', 1, bounds.MAX_REACH_HOSTS),
    fallback: 'asks for something else',
    example: '["10.0.100.1"]',
    meaning: 'What must answer an echo request (ping), all of them.',
  }),
  script: key({
    type: types.scriptText,
    fallback: 'asks for something else',
    example: '"checks/web.sh"',
    meaning:
      'An executable file of this directory: exit code 0 is healthy, 75, 126 and 127 mean that it could not ask.',
  }),
  arguments: key({
    type: listOf(types.argumentText, 'list of text', 0, bounds.MAX_SCRIPT_ARGUMENTS),
    fallback: '[]',
    example: '["--port", "8080"]',
    meaning: 'With `script`: its arguments.',
  }),
  job: key({
    type: types.jobText,
    fallback: 'asks for something else',
    example: '"gates/smoke.yaml"',
    meaning:
      'A Job of Kubernetes in a file of this directory, for the `gates` of clusters: a server runs it, and it must complete.',
  }),
  deadline: key({
    type: duration(bounds.SAFETY_BOUNDS.gateDeadlineMs, 'from 1s to 10m'),
    fallback: '"10s"; "2m" with `job`',
    example: '"10s"',
    meaning: 'How long one attempt may take; with `job` at most 4 minutes.',
  }),
}

export const fleetKeys = {
  name: key({
    type: types.nameText,
    fallback: 'required',
    required: true,
    example: '"home"',
    meaning: 'What people call the fleet.',
  }),
  id: key({
    type: types.fleetIdText,
    fallback: 'required',
    required: true,
    example: '"5f1c0a7be2d94c3386a1f0d2b7c4e895"',
    meaning: 'Random, made by `muster init`. Never change it: machines obey this fleet only.',
  }),
  store: key({
    type: types.storeUrlText,
    fallback: 'none: machines build from source',
    example: '"https://cache.home"',
    meaning: 'Where `muster publish --build` copies closures to.',
  }),
  substituters: key({
    type: listOf(types.storeUrlText, 'list of store URLs'),
    fallback: 'the store',
    example: '["https://cache.home"]',
    meaning: 'Where machines fetch closures from, in order.',
  }),
  'public-keys': key({
    type: listOf(types.nixPublicKeyText, 'list of public keys of Nix'),
    fallback: '[]',
    example: '["cache.home-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]',
    meaning: 'One of these must have signed every path that a machine fetches.',
  }),
  floor: key({
    type: integer('number from 1', 1, Number.MAX_SAFE_INTEGER),
    fallback: 'as in the revision before',
    example: '12',
    meaning: 'Machines refuse revisions below it from the moment they accept one that says so.',
  }),
  'expires-days': key({
    type: integer('number from 1 to 3650', 1, 3650),
    fallback: String(defaultExpiresDays),
    example: '30',
    meaning: 'Days until a published revision may no longer be applied anew.',
  }),
  'least-nix-version': key({
    type: types.nixVersionText,
    fallback: 'any',
    example: '"2.18"',
    meaning: 'Machines with an older Nix refuse the revision before they try.',
  }),
}

/** The sections of the file, with the name that the reference and messages give them. */
export const sections = [
  { name: '[fleet]', keys: fleetKeys },
  { name: '[defaults]', keys: defaultsKeys },
  { name: '[groups.NAME]', keys: groupKeys },
  { name: '[hosts.NAME]', keys: hostKeys },
  { name: '[clusters.NAME]', keys: clusterKeys },
  { name: '[gates.NAME]', keys: gateKeys },
  { name: '[rollout]', keys: rolloutKeys },
] as const

/** The sections in which a key stands, for a key that was written into the wrong one. */
export function sectionsOf(name: string): string | undefined {
  const found = sections.filter(({ keys }) => Object.hasOwn(keys, name)).map(section => section.name)
  return found.length === 0 ? undefined : found.join(' or ')
}
