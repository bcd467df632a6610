import type { OperationRow } from '../store/operations.ts'

/** What an operation is for, in a few words for people: "apply revision 7", "rollback to before 0k3-1f", "reboot". */
export function whatWasOrdered(
  row: Pick<OperationRow, 'action' | 'revision' | 'rollback_to' | 'rollback_before'>,
): string {
  switch (row.action) {
    case 'apply':
    case 'plan':
      return `${row.action} revision ${row.revision}`
    case 'upgrade':
    case 'fetch':
      return `${row.action} Kubernetes of revision ${row.revision}`
    case 'rollback':
      return `rollback to ${row.rollback_before === 1 ? 'before ' : ''}${row.rollback_to}`
    default:
      return row.action
  }
}
