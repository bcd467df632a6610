"""Who a k3s server lets in by a password: the file of them, what the datastore has of it, and the tokens that are shown of it.

As read in k3s' sources (pkg/passwd, pkg/daemons/control, pkg/authenticator/passwordfile, pkg/cluster/bootstrap.go and storage.go,
pkg/server/handlers/token.go, as they are since 1.31): the file is brought in line with the datastore's copy at each start, then with the tokens that were given; it is read once, so that a server
takes until it ends what it was started with. The copy is written when the cluster is founded and by `token rotate`, and by nothing
else: a server whose agent token is another one starts once, and then no more, as long as its file is there. k3s' documentation
says of the agent token only that it "can be set before or after the cluster has been started, by changing the CLI option".
"""

import os

from k3s.config import Folders
from k3s.log import warn
from k3s.tokens import secure
from programs import read_text, write_file
from say import Problem

SKEW = 3


def path_of(folders: Folders) -> str:
    return folders.server("cred", "passwd")


def read(folders: Folders) -> dict:
    """Password by user: server, node."""
    path = path_of(folders)
    if not os.path.exists(path):
        return {}
    lines = (line.split(",") for line in read_text(path).splitlines() if line)
    return {user: password for password, user, *_ in lines}


def copy_of(folders: Folders) -> dict:
    """As it goes into the datastore."""
    path = path_of(folders)
    return {"text": read_text(path), "time": int(os.stat(path).st_mtime)} if os.path.exists(path) else {}


def put_copy(folders: Folders, copy: dict) -> None:
    if copy:
        write_file(path_of(folders), copy["text"])
        os.utime(path_of(folders), (copy["time"], copy["time"]))


def reconcile(folders: Folders, copy: dict) -> None:
    """Takes the datastore's, unless what lies here is another one and newer: whoever knows why should decide."""
    path = path_of(folders)
    if not copy or (os.path.exists(path) and read_text(path) == copy["text"]):
        return
    if os.path.exists(path) and int(os.stat(path).st_mtime) - copy["time"] >= SKEW:
        raise Problem(
            f"{path} newer than datastore and could cause a cluster outage. Remove the file(s) from disk and restart to be "
            "recreated from datastore."
        )
    warn("Updating bootstrap data on disk from datastore")
    put_copy(folders, copy)


def ensure(folders: Folders, server: str, node: str) -> None:
    if read(folders) != {"server": server, "node": node}:
        lines = [f"{server},server,server,k3s:server", f"{node},node,node,k3s:agent", ""]
        write_file(path_of(folders), "\n".join(lines))


def show_server(folders: Folders, server: str) -> None:
    write_file(folders.server("token"), secure(folders.tls("server-ca.crt"), f"server:{server}") + "\n")
    if not os.path.islink(folders.server("node-token")):
        os.symlink(folders.server("token"), folders.server("node-token"))


def show_node(folders: Folders, node: str, own: bool) -> None:
    """Where agents have none of their own it is that of servers."""
    path = folders.server("agent-token")
    if os.path.lexists(path):
        os.unlink(path)
    if own:
        write_file(path, secure(folders.tls("server-ca.crt"), f"node:{node}") + "\n")
    else:
        os.symlink(folders.server("token"), path)


def of_agents(text: str) -> str:
    """What k3s makes of --agent-token: of another user's token the whole text."""
    start, separator, password = text.partition("::node:")
    return password if separator and start.startswith("K10") else text
