# A static pod for one part of the control plane, with the command line that its unit would have.
{
  config,
  lib,
}:
let
  cfg = config.muster.kubernetes;
  components = cfg.components;
  shared = import ../../../lib/clusters.nix { inherit lib config; };
in
{
  name,
  flags,
  probe,
}:
{
  apiVersion = "v1";
  kind = "Pod";
  metadata = {
    inherit name;
    namespace = "kube-system";
    labels = {
      component = name;
      tier = "control-plane";
    };
  };
  spec = {
    hostNetwork = true;
    priorityClassName = "system-node-critical";
    securityContext.seccompProfile.type = "RuntimeDefault";
    containers = [
      {
        inherit name;
        image = "${toString components.staticPods.repository}/${name}:v${toString cfg.version}";
        command = shared.commandLineWords name flags;
        startupProbe = {
          httpGet = probe // {
            scheme = "HTTPS";
          };
          failureThreshold = 24;
          periodSeconds = 10;
        };
        livenessProbe = {
          httpGet = probe // {
            scheme = "HTTPS";
          };
          failureThreshold = 8;
          periodSeconds = 10;
          timeoutSeconds = 15;
        };
        volumeMounts = [
          {
            name = "kubernetes";
            mountPath = shared.kubernetesDir;
            readOnly = true;
          }
        ];
      }
    ];
    volumes = [
      {
        name = "kubernetes";
        hostPath = {
          path = shared.kubernetesDir;
          type = "Directory";
        };
      }
    ];
  };
}
