import { cp, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { MachineState } from '../../shared/gen/muster/v1/machine_pb.ts'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { until } from '../start/until.ts'
import { agentOf, type DemoContext, untilMachine } from './context.ts'
import { writeBadUnit, writeGeneration } from './fleet-files.ts'
import { forgeRevision, removeRevision } from './forge.ts'
import { outcomesOnly, type Step } from './walk.ts'

/** What happens when somebody takes the coordinator over, and when a machine is sent away. */
export function defenceSteps(context: DemoContext): readonly Step[] {
  return [
    {
      title: 'The coordinator is taken over and offers a forged revision 3: the node refuses it',
      run: () => forge(context),
    },
    {
      title: 'Revision 3 is a bad change: the machine goes back by itself, and does not try it again',
      run: () => goBack(context),
    },
    { title: 'A machine is evicted', run: () => evict(context) },
  ]
}

async function forge(context: DemoContext): Promise<void> {
  const { walk, coordinator, folder, state, fleet, signal } = context
  const before = await agentOf(context, 'olaf').running()
  await coordinator.stop()
  const tree = join(folder, 'forged')
  await cp(fleet, tree, { recursive: true })
  await writeGeneration(tree, 666)
  const number = await forgeRevision(state, tree, folder)
  walk.say(
    `Its store now holds a revision ${number} with another tree, signed with a key that is not the operator's.`,
  )
  await coordinator.start(signal)
  await untilMachine(context, 'olaf', 'back', ({ online }) => online)
  await walk.muster(['apply', 'olaf'], { exit: 4, show: outcomesOnly })
  const olaf = await untilMachine(context, 'olaf', 'shown with its refusal', ({ lastOperation }) => {
    return lastOperation?.outcome?.class === OutcomeClass.REFUSED
  })
  const outcome = olaf.lastOperation?.outcome
  walk.check(
    outcome?.refusal === 'signature',
    `olaf (simulated) refused, class ${outcome?.refusal}: ${outcome?.reason}`,
  )
  const after = await agentOf(context, 'olaf').running()
  walk.check(
    after.system === before.system && after.generation === before.generation,
    'it runs what it ran before, as the same generation',
  )
  walk.check(
    olaf.highestRevision === 2n,
    'the highest revision it ever accepted is still 2',
    String(olaf.highestRevision),
  )
  await coordinator.stop()
  removeRevision(state, number)
  await coordinator.start(signal)
  await untilMachine(context, 'olaf', 'back', ({ online }) => online)
  walk.say('The forged revision is taken out of the store again.')
}

async function goBack(context: DemoContext): Promise<void> {
  const { walk, fleet } = context
  const before = await agentOf(context, 'bolt').running()
  await writeBadUnit(fleet, 'bolt')
  await writeGeneration(fleet, 3)
  await walk.muster(['publish', 'fleet'])
  walk.say('The switch is simulated, and so is the unit that fails in it; the way back is the real one.')
  await walk.muster(['apply', 'bolt'], { exit: 6, show: outcomesOnly })
  const bolt = await untilMachine(context, 'bolt', 'shown as it went back', ({ lastOperation }) => {
    return lastOperation?.outcome?.class === OutcomeClass.ROLLED_BACK
  })
  const outcome = bolt.lastOperation?.outcome
  walk.check(
    outcome?.firstCause === OutcomeClass.ACTIVATION_FAILED,
    `bolt (simulated) went back by itself: ${outcome?.reason}`,
  )
  const after = await agentOf(context, 'bolt').running()
  walk.check(
    after.system === before.system && after.generation === before.generation,
    'it runs what it ran before, as the same generation, and would boot it',
    after.system,
  )
  const again = await walk.muster(['apply', 'bolt'], { exit: 4 })
  walk.check(
    again.both.includes('revision 3 failed there and is not tried again'),
    'ordered again, the same system is not tried again: it is in quarantine there until `muster retry bolt`',
  )
}

async function evict(context: DemoContext): Promise<void> {
  const { walk, signal } = context
  const name = 'n100-5'
  const { id, host } = await untilMachine(context, name, 'online', ({ online }) => online)
  await walk.muster(['evict', id.slice(0, 12), '--why', 'end of the demo'])
  const gone = await untilMachine(
    context,
    name,
    'evicted',
    ({ state, online }) => state === MachineState.EVICTED && !online,
  )
  walk.check(!gone.online, `${host} (simulated) was cut off at once`)
  const { console } = agentOf(context, name)
  const said = await until(`${name} is told why`, signal, async () => {
    const text = await readFile(console, 'utf8').catch(() => '')
    return /evicted/i.test(text)
      ? text
          .trim()
          .split('\n')
          .find(line => /evicted/i.test(line))
      : undefined
  })
  walk.check(true, `its console (simulated) says why: ${said}`)
  await walk.muster(['apply', id.slice(0, 12)], { exit: 4 })
  walk.check(true, 'nothing can be ordered there any more')
}
