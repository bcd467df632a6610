"""Builds a stand-in for a NixOS toplevel from the JSON that toplevel.nix hands over."""

import json
import os
import re

OUT = os.environ["out"]
with open(os.environ["specPath"], encoding="utf-8") as file:
    SPEC = json.load(file)
OMIT = set(SPEC["omit"])


def put(path, text, mode=0o644):
    if path in OMIT:
        return
    full = os.path.join(OUT, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(full, mode)


def link(path, target):
    if path in OMIT:
        return
    full = os.path.join(OUT, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    if os.path.lexists(full):
        os.remove(full)
    os.symlink(target, full)


def install_unit(name, text):
    """NixOS turns [Install] into links and leaves the section out of the file."""
    if text is None:
        link(f"etc/systemd/system/{name}", "/dev/null")
        return
    # Nix's indented strings and JavaScript's templates differ in what they leave at the start of a line.
    lines = [line.strip() for line in text.split("\n")]
    section, kept = None, []
    for line in lines:
        if line.startswith("["):
            section = line
        if section != "[Install]":
            kept.append(line)
            continue
        found = re.fullmatch(r"(WantedBy|RequiredBy)\s*=(.*)", line)
        for target in found[2].split() if found else []:
            folder = f"{target}.{'wants' if found[1] == 'WantedBy' else 'requires'}"
            link(f"etc/systemd/system/{folder}/{name}", f"../{name}")
    put(f"etc/systemd/system/{name}", "\n".join(kept).strip() + "\n")


def install_units():
    for name in sorted(os.listdir(SPEC["baseUnits"])):
        if name not in OMIT:
            with open(os.path.join(SPEC["baseUnits"], name), encoding="utf-8") as file:
                install_unit(name, file.read())
    link("etc/systemd/system/default.target", "multi-user.target")
    # A console that nobody sits at.
    link("etc/systemd/system/getty.target", "/dev/null")
    for name, text in SPEC["units"].items():
        install_unit(name, text)


def install_etc():
    for path, source in SPEC["etc"].items():
        link(f"etc/{path}", source)
    put("etc/os-release", f'ID=nixos\nNAME=NixOS\nPRETTY_NAME="stand-in for NixOS"\nVARIANT_ID=lab\nVERSION_ID="{SPEC["label"]}"\n')


def activate_script(dry):
    if dry:
        return "#!/bin/sh\necho 'stand-in: would activate' >&2\n"
    return f"""#!/bin/sh
# As the activation of NixOS: a part that fails leaves a mark in the exit code, and the rest goes on.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
status=0
echo "setting up /etc..."
/usr/bin/python3 -B -E -s {SPEC["setUpEtc"]} {OUT}/etc || status=1
{SPEC["activationScript"]}
ln -sfn {OUT} /run/current-system.new && mv -T /run/current-system.new /run/current-system || status=1
mkdir -p /nix/var/nix/gcroots
ln -sfn /run/current-system /nix/var/nix/gcroots/current-system
ln -sfn /run/booted-system /nix/var/nix/gcroots/booted-system
exit $status
"""


def init_script():
    return f"""#!/bin/sh
# What the second stage of a boot does: notes what was booted, activates it, becomes systemd.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
echo "stand-in: init of {OUT}"
ln -sfn {OUT} /run/booted-system
{OUT}/activate {OUT}
hostname "$(cat /etc/hostname)" || true
exec {SPEC["systemd"]}/lib/systemd/systemd
"""


def check_script():
    checks = [f'/usr/bin/python3 -B -E -s {SPEC["checkInhibitors"]} "$1" "$2" || failed "switchInhibitors"']
    for name, text in SPEC["preSwitchChecks"].items():
        checks.append(f'(\n{text}\n) >&2 || failed "{name}"')
    return """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
failed() {
  echo "Pre-switch check '$1' failed" >&2
  exit 1
}
""" + "\n".join(checks) + "\n"


def switch_wrapper():
    # A real one, where the lab was given one.
    real = f"{SPEC['switchProgram']}/switch-to-configuration"
    program = real if os.path.exists(real) else f"/usr/bin/python3 -B -E -s {SPEC['switchProgram']}/switch_to_configuration.py"
    return f"""#!/bin/sh
export OUT={OUT} TOPLEVEL={OUT} DISTRO_ID=nixos LOCALE_ARCHIVE=
export PRE_SWITCH_CHECK={OUT}/pre-switch-checks INSTALL_BOOTLOADER={OUT}/install-boot-loader SYSTEMD={OUT}/systemd
exec {program} "$@"
"""


def nixos_version():
    answer = json.dumps({"nixosVersion": SPEC["label"], "configurationRevision": ""})
    return f"""#!/bin/sh
if [ "$1" = --json ]; then echo '{answer}'; else echo '{SPEC["label"]}'; fi
"""


def boot_specification():
    return {
        "org.nixos.bootspec.v1": {
            "init": f"{OUT}/init",
            "initrd": f"{OUT}/initrd",
            "kernel": f"{OUT}/kernel",
            "kernelParams": SPEC["kernelParams"],
            "label": f"NixOS {SPEC['label']}",
            "system": SPEC["claimsSystem"],
            "toplevel": OUT,
        },
        "org.nixos.specialisation.v1": {},
    }


os.makedirs(OUT)
install_units()
install_etc()
put("activate", activate_script(False), 0o755)
put("dry-activate", activate_script(True), 0o755)
put("init", init_script(), 0o755)
put("init-interface-version", SPEC["initInterface"])
put("nixos-version", SPEC["label"])
put("system", SPEC["claimsSystem"])
put("kernel-params", " ".join(SPEC["kernelParams"]))
put("switch-inhibitors", json.dumps(SPEC["inhibitors"]))
put("boot.json", json.dumps(boot_specification(), indent=2))
put("bin/switch-to-configuration", switch_wrapper(), 0o755)
put("pre-switch-checks", check_script(), 0o755)
put("install-boot-loader", f'#!/bin/sh\nexec /usr/bin/python3 -B -E -s {SPEC["bootLoader"]} "$@"\n', 0o755)
put("sw/bin/nixos-version", nixos_version(), 0o755)
link("kernel", SPEC["kernel"])
link("initrd", SPEC["initrd"])
link("kernel-modules", SPEC["kernelModules"])
link("systemd", SPEC["systemd"])
for special, target in SPEC["specialisation"].items():
    link(f"specialisation/{special}", target)
