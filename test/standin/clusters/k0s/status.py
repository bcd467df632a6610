"""What a running k0s tells of itself, through its socket."""

import http.client
import http.server
import json
import os
import socket
import socketserver
import sys
import threading
from collections.abc import Callable

from k0s.config import Folders
from k0s.quick import full_version
from say import Problem

def _common(version: str, folders: Folders, role: str, flags: dict, works: bool, config: dict | None) -> dict:
    return {
        "Version": full_version(version),
        "StandIn": True,
        "Pid": os.getpid(),
        "PPid": 0,
        "Role": role,
        "SysInit": "",
        "StubFile": "",
        "Output": "",
        "Workloads": works,
        "SingleNode": bool(flags.get("single")),
        "Args": sys.argv,
        "WorkerToAPIConnectionStatus": {"Message": "", "Success": False},
        "ClusterConfig": config,
        "K0sVars": {
            "AdminKubeConfigPath": folders.admin_conf,
            "CertRootDir": folders.pki,
            "DataDir": folders.data,
            "EtcdCertDir": folders.etcd_pki,
            "EtcdDataDir": folders.etcd,
            "KubeletAuthConfigPath": folders.kubelet_conf,
            "KubeletRootDir": folders.kubelet,
            "ManifestsDir": folders.manifests,
            "OCIBundleDir": folders.images,
            "RunDir": folders.run,
            "StatusSocketPath": folders.socket,
        },
    }


def of_controller(version: str, config: dict, folders: Folders, flags: dict, works: bool) -> Callable[[], dict]:
    return lambda: _common(version, folders, "controller", flags, works, config)


def of_worker(version: str, folders: Folders, flags: dict, name: str) -> Callable[[], dict]:
    # What k0s 1.34 and 1.35 were seen to say on healthy workers: their probe lists nodes, which a node may not.
    refusal = (
        f'nodes is forbidden: User "system:node:{name}" cannot list resource "nodes" in API group "" at the cluster scope: '
        f"node '{name}' cannot read all nodes, only its own Node object"
    )

    def now() -> dict:
        told = _common(version, folders, "worker", flags, True, None)
        return {**told, "WorkerToAPIConnectionStatus": {"Message": refusal, "Success": False}}

    return now


def serve(folders: Folders, now: Callable[[], dict]) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = json.dumps(now() if self.path.startswith("/status") else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def address_string(self) -> str:
            return "socket"

        def log_message(self, *_) -> None:
            pass

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    if os.path.exists(folders.socket):
        os.unlink(folders.socket)
    server = Server(folders.socket, Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def ask(path: str) -> dict:
    """What the k0s that runs on this machine says; a Problem when none does."""

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(10)
            self.sock.connect(path)

    connection = Connection("socket")
    try:
        connection.request("GET", "/status")
        return json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Problem(
            f'status: can\'t get "status" via "{path}": Get "http://localhost/status": dial unix {path}: connect: {why.lower()}'
        ) from None
    finally:
        connection.close()
