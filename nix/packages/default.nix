# The packages: one build, three programs. Each of them holds only its own bundle; the parts of agent and command that are read
# only when they are needed lie in a folder beside it. The argument is the whole of nixpkgs, and in seconds since 1970 the time
# that the sources are from: the agent takes no clock for right that stands before it.
{
  lib,
  runCommand,
  makeWrapper,
  callPackage,
  nodejs_24,
  sourceTime ? null,
  ...
}:
let
  built = callPackage ./build.nix { inherit sourceTime; };

  programOf =
    {
      program,
      bundle,
      description,
      parts ? false,
      native ? false,
    }:
    runCommand "${program}-${built.version}"
      {
        nativeBuildInputs = [ makeWrapper ];
        meta = {
          inherit description;
          mainProgram = program;
          license = lib.licenses.asl20;
          platforms = lib.platforms.linux;
        };
      }
      ''
        mkdir -p $out/lib/muster
        cp ${built}/lib/muster/${bundle}.mjs $out/lib/muster/
        ${lib.optionalString parts "cp -r ${built}/lib/muster/${bundle} $out/lib/muster/"}
        ${lib.optionalString native "cp -r ${built}/lib/muster/node_modules $out/lib/muster/"}
        makeWrapper ${lib.getExe nodejs_24} $out/bin/${program} --add-flags $out/lib/muster/${bundle}.mjs
      '';
in
{
  agent = programOf {
    program = "muster-agent";
    bundle = "agent";
    parts = true;
    description = "Muster's agent on a node";
  };
  coordinator = programOf {
    program = "muster-coordinator";
    bundle = "coordinator";
    description = "Muster's coordinator";
    native = true;
  };
  cli = programOf {
    program = "muster";
    bundle = "muster";
    parts = true;
    description = "Muster's command for operators";
  };
}
