import { adoptByHand } from './adopt-by-hand.ts'

adoptByHand('components')
// Not skipped but not there: what is left out is asked for.
if (process.env.MUSTER_WALK === 'whole') adoptByHand('k0s')
