import type { BrokenPlanner } from './break-planner.ts'
import { BREAK_COURSE } from './course.ts'
import { BREAK_EVIDENCE } from './evidence.ts'
import { BREAK_GATES } from './gates.ts'
import { BREAK_ORDER } from './order.ts'

/** Planners with one mistake each, as others made them, and what the world must notice. */
export const BROKEN_PLANNERS: readonly BrokenPlanner[] = [
  ...BREAK_ORDER,
  ...BREAK_EVIDENCE,
  ...BREAK_GATES,
  ...BREAK_COURSE,
]
