/** What a cluster is made of; `kubernetes` is nixpkgs' module, `components` runs the parts one by one. */
export const distributions = ['k3s', 'k0s', 'kubernetes', 'components'] as const

export type Distribution = (typeof distributions)[number]
