/** What a running start is: printed, and left in its state folder for a second one to tell. */
export interface Running {
  readonly pid: number
  readonly top: string
  readonly state: string
  readonly socket: string
  readonly enrolment: string
  readonly fleet: string
  readonly caPin: string
  readonly logs: string
  /** The first characters of this machine's id. */
  readonly machine: string
  /** Whether it listens on the loopback alone. */
  readonly onlyHere: boolean
}

export function runningText(running: Running, notes: readonly (string | undefined)[]): string {
  const noted = notes.flatMap(note => (note === undefined ? [] : [`${note}\n`])).join('')
  return `${noted}
Muster runs: a coordinator, and this machine as its first one.

${fields(running)}
  This machine        ${running.machine}, active; whatever is ordered, nothing is ever activated on it

${commands(running)}
${otherMachines(running)}Stop with Ctrl-C, or from elsewhere: kill ${running.pid}
`
}

export function alreadyRunningText(state: string, running: Partial<Running>, reason: string): string {
  const { pid, top, socket, enrolment, fleet, caPin, logs, machine } = running
  const whole = pid && top && socket && enrolment && fleet && caPin && logs && machine
  if (!whole) return `Muster is being started here already: ${reason}\n`
  const known = { pid, top, state, socket, enrolment, fleet, caPin, logs, machine, onlyHere: true }
  return `Muster runs here already (process ${pid}); nothing was started.

${fields(known)}

${commands(known)}
A second one beside it needs a folder of its own: npm start -- --state DIR
Stop the running one: kill ${pid}
`
}

function fields({ enrolment, fleet, caPin, state, logs }: Running): string {
  return `  Machines enrol at   ${enrolment}
  Fleet listener      ${fleet}
  CA pin              ${caPin}
  State               ${state}
  Logs                ${logs}`
}

function commands({ top, socket, machine }: Running): string {
  const lines = [
    ['npx muster status', 'the whole fleet on one screen'],
    [`npx muster show ${machine}`, 'this machine and its hardware'],
    ["npx muster machines --where 'facts.memory.total > 1000000000'", 'ask for hardware'],
    ['npx muster init ~/fleet', 'a fleet directory and your signing key'],
    ['npx muster --help', 'everything else'],
  ] as const
  const width = Math.max(...lines.map(([command]) => command.length))
  return `First commands, in another terminal:

  cd ${quoted(top)}
  export MUSTER_SOCKET=${quoted(socket)}
${lines.map(([command, what]) => `  ${command.padEnd(width)}   # ${what}\n`).join('')}`
}

function otherMachines({ onlyHere }: Running): string {
  return onlyHere
    ? 'It listens on this machine only; with `npm start -- --listen 0.0.0.0` others can enrol, too.\n'
    : 'Let another machine in: npx muster token create --ttl 1h --uses 1\n'
}

/** As a shell takes it. */
export function quoted(text: string): string {
  if (/^[\w@%+=:,./-]+$/.test(text)) return text
  return text.includes("'") && !/["$`\\!]/.test(text) ? `"${text}"` : `'${text.replaceAll("'", "'\\''")}'`
}
