/** What a cluster is made of; `kubernetes` is nixpkgs' module, `components` runs the parts one by one. */
export const distributions = ['k3s', 'k0s', 'kubernetes', 'components'] as const

export type Distribution = (typeof distributions)[number]

/** What data of nixpkgs' module with its own certificates is called: nothing of Muster's works with it. */
export const EASY_CERTS = 'easyCerts'

/** Whose files a distribution lays on the disk: `components` shares those of kubeadm with `kubernetes`, so data cannot tell the two apart. */
export function layoutOf(distribution: Distribution): Distribution {
  return distribution === 'components' ? 'kubernetes' : distribution
}
