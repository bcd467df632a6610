"""Takes away what a node's containers leave behind: processes, mounts, network namespaces."""

import glob
import os
import shutil
import signal
import subprocess
import time

from say import say


def _processes() -> dict[int, tuple[int, str]]:
    """(parent, command line) by pid."""
    found = {}
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            with open(f"{folder}/stat", encoding="utf8", errors="replace") as file:
                parent = int(file.read().rsplit(")", 1)[1].split()[1])
            with open(f"{folder}/cmdline", "rb") as file:
                found[int(os.path.basename(folder))] = (parent, file.read().replace(b"\0", b" ").decode(errors="replace"))
        except (OSError, IndexError):
            continue
    return found


def end_containers(socket_path: str) -> None:
    """Kills every container of that runtime, with the shims that hold them."""
    for _ in range(10):
        processes = _processes()
        doomed = {pid for pid, (_, line) in processes.items() if "containerd-shim" in line and socket_path in line}
        if not doomed:
            return
        grew = True
        while grew:
            more = {pid for pid, (parent, _) in processes.items() if parent in doomed} - doomed
            doomed |= more
            grew = bool(more)
        say(f"ending {len(doomed)} processes of containers")
        for pid in doomed:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.5)


def unmount_below(*folders: str) -> None:
    """Everything mounted in these folders, but not the folders themselves: somebody else mounted those."""
    with open("/proc/self/mounts", encoding="utf8") as file:
        points = [line.split()[1].encode().decode("unicode_escape") for line in file]
    for point in reversed(points):
        if any(point.startswith(f"{folder}/") for folder in folders):
            subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)


def empty(folder: str) -> None:
    """Removes a folder; of one that is a mount, what it holds."""
    unmount_below(folder)
    if not os.path.ismount(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


def forget_network() -> None:
    """Namespaces and addresses of pods that are gone."""
    for path in glob.glob("/run/netns/cni-*") + glob.glob("/var/run/netns/cni-*"):
        subprocess.run(["ip", "netns", "delete", os.path.basename(path)], check=False, capture_output=True)
    shutil.rmtree("/var/lib/cni", ignore_errors=True)
    subprocess.run(["ip", "link", "delete", "cni0"], check=False, capture_output=True)


def delete_users(names: list[str]) -> None:
    """Whoever made them. One that is not there is no matter."""
    for name in sorted(set(names)):
        if subprocess.run(["id", "-u", name], check=False, capture_output=True).returncode == 0:
            subprocess.run(["userdel", name], check=False, capture_output=True)
