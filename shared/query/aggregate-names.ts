/** What is asked over all machines of a group. */
export const AGGREGATES = ['count', 'sum', 'min', 'max'] as const
