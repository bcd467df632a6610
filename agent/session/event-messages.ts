import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { cutText } from '../../shared/cut-text.ts'
import type { AgentStateFile, PendingEvent } from '../state/agent-state.ts'
import type { MessageSource } from './sender.ts'

export interface EventMessages extends MessageSource {
  /** Call when a heartbeat is sent: its acknowledgement will prove that what went before it was read. */
  mark(): void
  /** Call when a heartbeat is acknowledged. */
  settle(): Promise<void>
}

/** Events wait on disk until the coordinator has read them; there is no acknowledgement of their own. */
export function eventMessages(state: AgentStateFile): EventMessages {
  const sent = new Set<PendingEvent>()
  let marked: readonly PendingEvent[] = []
  return {
    next() {
      const event = state.current.events.find(waiting => !sent.has(waiting))
      if (!event) return undefined
      const { class: name, reason, at } = event
      const value = { class: name, reason, at: timestampFromDate(new Date(at)) }
      return { message: { message: { case: 'event', value } }, sent: () => sent.add(event) }
    },
    mark() {
      marked = [...sent]
    },
    async settle() {
      if (marked.length === 0) return
      const read = new Set(marked)
      marked = []
      await state.update(before => ({ ...before, events: before.events.filter(event => !read.has(event)) }))
      for (const event of read) sent.delete(event)
    },
  }
}

/** Keeps something an operator should see until it was told. */
export function recordEvent(state: AgentStateFile, name: string, reason: string, now: Date): Promise<void> {
  const event = { class: name, reason: cutText(reason, 1024), at: now.getTime() }
  return state.update(before => ({ ...before, events: [...before.events, event] }))
}
