import { type ClusterAct, ClusterActSchema } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { millisOf } from '../../shared/time.ts'
import { actState, exitForAct } from '../clusters/act-state.ts'
import { ago } from './machine-listing.ts'
import { type PlainRecord, plainOf } from './plain.ts'
import type { Listing } from './show-list.ts'

export const ACT_FIELDS = [
  'id',
  'cluster',
  'act',
  'host',
  'executor',
  'askedBy',
  'asked',
  'ended',
  'done',
  'class',
  'reason',
  'text',
] as const

/** An act for programs. Neither a kubeconfig, which is sealed, nor lists, which have their own commands, are in it. */
export function actRecord(act: ClusterAct): PlainRecord {
  const { result, ...rest } = act
  const {
    id,
    cluster,
    act: word,
    host,
    executor,
    askedBy,
    asked,
    ended,
    reason,
  } = plainOf(ClusterActSchema, rest)
  return {
    id: id ?? null,
    cluster: cluster ?? null,
    act: word ?? null,
    host: host ?? null,
    executor: executor ?? null,
    askedBy: askedBy ?? null,
    asked: asked ?? null,
    ended: ended ?? null,
    done: act.ended ? exitForAct(act) === 'ok' : null,
    class: result?.class ?? '',
    reason: result?.reason || (reason ?? null),
    text: result?.value.case === 'text' ? result.value.value : null,
  }
}

export function actListing(now: Date): Listing<ClusterAct> {
  return {
    fields: ACT_FIELDS,
    record: actRecord,
    empty: 'nothing was asked of it',
    columns: [
      { title: 'AGE', text: ({ asked }) => ago(millisOf(asked), now.getTime()) },
      { title: 'ACT', wraps: true, text: ({ act }) => act },
      { title: 'HOST', wraps: true, text: ({ host }) => host },
      {
        title: 'STATE',
        wraps: true,
        text: act => (act.ended ? (exitForAct(act) === 'ok' ? 'done' : 'not done') : 'under way'),
        style: act => (act.ended ? (exitForAct(act) === 'ok' ? 'good' : 'bad') : 'plain'),
      },
      { title: 'BY', text: ({ executor }) => executor },
      { title: 'ASKED BY', text: ({ askedBy }) => askedBy },
      { title: 'ID', wide: true, text: ({ id }) => id },
      { title: 'REASON', wraps: true, text: actState },
    ],
  }
}
