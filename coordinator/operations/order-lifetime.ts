/** How long an order may wait for its machine where nothing else is said. */
export const ORDER_LIFETIME_MS = 3_600_000
