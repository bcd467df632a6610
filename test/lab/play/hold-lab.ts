// The process that holds a lab for a person: machines, coordinator, and a fleet directory whose first revision is published.
// Started by main.ts, ended by its order `down` or by a signal.
import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { signalOfProcess, untilAborted } from '../../../shared/lifecycle.ts'
import type { Fleet } from '../../support/fleet.ts'
import type { ProgramOptions } from '../../support/program.ts'
import { type LabFleet, startLabFleet } from '../lab-fleet.ts'
import { writeSystemsFlake } from '../systems.ts'
import { type Order, serveOrders } from './control.ts'
import { places } from './places.ts'

const [, , ...names] = process.argv
const ended = new AbortController()
const asOperator: ProgramOptions = { env: { MUSTER_CONFIG_HOME: places.operator } }

/** The keys are made by the command that people use, and stay where they find them. */
async function initFleet(fleet: Fleet): Promise<void> {
  await fleet.okWith(asOperator, 'init', places.fleet, '--name', 'lab')
  await fleet.okWith(asOperator, 'trust', 'set')
}

/** The systems that the machines run already, as a directory to change and publish again. */
async function publishFirst({ fleet, systems }: LabFleet): Promise<void> {
  await writeSystemsFlake(places.fleet, systems)
  const hosts = Object.keys(systems).map(host => `[hosts.${host}]\nconfig = "nixosConfigurations.${host}"\n`)
  await appendFile(join(places.fleet, 'fleet.toml'), `\n${hosts.join('\n')}`)
  await fleet.okWith(asOperator, 'publish', places.fleet)
}

async function obey(fleet: LabFleet, { verb, machine: name }: Order): Promise<unknown> {
  if (verb === 'down') return ended.abort()
  if (verb === 'list') return await describe(fleet)
  const machine = fleet.machine(name ?? '')
  switch (verb) {
    case 'cut':
      return await machine.cutNetwork()
    case 'heal':
      return await machine.healNetwork()
    case 'power-cut':
      return await machine.powerCut()
    case 'boot':
      return await machine.boot()
    case 'reboot':
      return await machine.reboot()
    case 'enter':
      return machine.running ? machine.enter() : Promise.reject(new Error(`${name} is off`))
  }
}

async function describe(fleet: LabFleet) {
  const machines = await Promise.all(
    fleet.lab.machines.map(async ({ name, address, running, root }) => {
      const online = (await fleet.shown(name))?.online ?? false
      const system = running ? (await fleet.machine(name).state()).current : 'off'
      return { name, address, online, system, root }
    }),
  )
  return { pid: process.pid, socket: fleet.fleet.socket, machines }
}

await using fleet = await startLabFleet({ machines: names, prepareTrust: initFleet })
await publishFirst(fleet)
const server = await serveOrders(places.socket, order => obey(fleet, order))
process.send?.('ready')
process.disconnect?.()
await Promise.race([untilAborted(signalOfProcess()), untilAborted(ended.signal)])
server.close()
