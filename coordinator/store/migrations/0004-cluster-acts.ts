import type { Kysely } from 'kysely'
import { columns } from '../columns.ts'

/** What operators ask of clusters, and what is to be remembered of it. Column comments: `cluster-tables.ts`. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const { text, int, bytes } = columns(db)
  const { schema } = db

  await schema
    .createTable('cluster_acts')
    .addColumn('id', text, c => c.primaryKey())
    .addColumn('request', text, c => c.notNull())
    .addColumn('intent', text, c => c.notNull())
    .addColumn('cluster', text, c => c.notNull())
    .addColumn('act', text, c => c.notNull())
    .addColumn('host', text, c => c.notNull())
    .addColumn('machine', text, c => c.notNull())
    .addColumn('executor', text, c => c.notNull())
    .addColumn('executor_host', text, c => c.notNull())
    .addColumn('operation', text, c => c.notNull())
    .addColumn('parameter', text, c => c.notNull())
    .addColumn('asked_by', text, c => c.notNull())
    .addColumn('asked', int, c => c.notNull())
    .addColumn('expires', int)
    .addColumn('cluster_order', bytes)
    .addColumn('attempts', int, c => c.notNull())
    .addColumn('not_before', int, c => c.notNull())
    .addColumn('ended', int)
    .addColumn('done', int, c => c.notNull())
    .addColumn('class', text, c => c.notNull())
    .addColumn('reason', text, c => c.notNull())
    .addColumn('result', bytes)
    // Asked twice at the same instant it is one act.
    .addUniqueConstraint('cluster_acts_request', ['request'])
    .execute()
  await schema
    .createIndex('cluster_acts_of_cluster')
    .on('cluster_acts')
    .columns(['cluster', 'asked'])
    .execute()

  await schema
    .createTable('cluster_cordons')
    .addColumn('cluster', text, c => c.notNull())
    .addColumn('host', text, c => c.notNull())
    .addColumn('act', text, c => c.notNull())
    .addColumn('asked_by', text, c => c.notNull())
    .addColumn('at', int, c => c.notNull())
    .addPrimaryKeyConstraint('cluster_cordons_key', ['cluster', 'host'])
    .execute()

  await schema.alterTable('cluster_leaves').addColumn('signed_order', bytes).execute()
  await schema.alterTable('cluster_leaves').addColumn('signed_until', int).execute()
  await schema
    .alterTable('cluster_leaves')
    .addColumn('reason', text, c => c.notNull().defaultTo(''))
    .execute()
  await schema
    .alterTable('cluster_attempts')
    .addColumn('reason', text, c => c.notNull().defaultTo(''))
    .execute()
  await schema
    .alterTable('cluster_nodes')
    .addColumn('part', text, c => c.notNull().defaultTo(''))
    .execute()
}
