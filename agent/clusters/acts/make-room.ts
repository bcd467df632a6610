import { isServerRole } from '../../drivers/cluster-facts.ts'
import { memberOf } from '../../drivers/kubernetes/check-joiner.ts'
import { describeLost } from '../../drivers/node/lost-datastore.ts'
import { type ActBase, type ActFailure, describeShortfalls, failedAct, fromDriver } from './act.ts'

/**
 * Takes away what an attempt of ours left unfinished under another operation, and says what else stands in the way. Data that
 * we did not begin is never touched; nor is that of a server which votes: its datastore counts on it. `over`: a snapshot is to take the
 * place of what is gone.
 */
export async function makeRoom(
  { driver, order, options }: ActBase,
  over?: 'lost-datastore',
): Promise<ActFailure | undefined> {
  const { signal } = options
  const state = await driver.readState(signal)
  if (state.lost && over === undefined) return failedAct('lost-datastore', describeLost(state.lost))
  if (state.held) return failedAct('held', 'Kubernetes is held down on this machine: let it go first')
  if (state.unfinished !== undefined && state.unfinished !== order.operationId) {
    if (isServerRole(driver.facts.role)) {
      const members = await driver.cluster.members(signal)
      const own =
        members.kind === 'done'
          ? memberOf(
              members.value,
              driver.nodeName,
              [driver.facts.nodeAddress ?? ''],
              driver.facts.distribution,
            )
          : undefined
      if (own && !own.learner && members.kind === 'done' && members.value.length > 1) {
        return failedAct(
          'data-present',
          `operation ${state.unfinished} is unfinished here, and this server votes already: take its node out first`,
        )
      }
    }
    const wiped = await driver.wipe(signal)
    if (wiped.kind === 'failed') return fromDriver(wiped)
  } else if (state.unfinished === undefined && state.data.kind !== 'none') {
    const shown = state.data.kind === 'unreadable' ? state.data.reason : `authority ${state.data.authority}`
    return failedAct(
      'data-present',
      `there is data of a cluster on this machine (${shown}): nobody founds or joins over it`,
    )
  }
  const shortfalls = await driver.checkPreconditions(signal)
  return shortfalls.length === 0 ? undefined : failedAct('precondition', describeShortfalls(shortfalls))
}
