# Nodes of clusters, of any distribution.
{
  imports = [
    ./options.nix
    ./common.nix
    ./firewall.nix
    ./k3s.nix
    ./k0s.nix
    ./k0s/service.nix
    ./kubernetes.nix
    ./components/options.nix
    ./components/units.nix
  ];
}
