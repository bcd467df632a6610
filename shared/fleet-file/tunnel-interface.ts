/**
 * Whether an interface is a tunnel by its name: Tailscale's, WireGuard's and their like. These carry no VRRP, and no address but those
 * that their peers were told of, so nobody can keep a virtual one there. The Nix modules know the same names (`nix/lib/clusters.nix`).
 */
export const isTunnel = (name: string): boolean =>
  /^(?:(?:tailscale|wg|tun|nebula|ppp).*|wt[0-9]+)$/.test(name)
