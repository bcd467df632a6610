"""One port for two: what belongs to k3s is answered here, all else goes to the real API server behind it, with the name of
whoever has a certificate of the cluster, as an authenticating proxy does."""

import asyncio
import json
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor

from certificates import Pair
from cryptography import x509
from cryptography.x509.oid import NameOID
from k3s.supervisor import Supervisor
from say import Problem, say

MOST_HEAD = 1 << 16
MOST_BODY = 1 << 20


def subject_of(der: bytes | None) -> tuple[str, list[str]] | None:
    """(common name, organisations)."""
    if not der:
        return None
    subject = x509.load_der_x509_certificate(der).subject
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = [one.value for one in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return (names[0].value, groups) if names else None


def _headers(head: bytes) -> tuple[str, list[tuple[str, str]]]:
    first, *lines = head.decode("latin1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return first, [(name.strip(), value.strip()) for name, _, value in pairs]


def _value(headers: list[tuple[str, str]], wanted: str) -> str:
    return next((value for name, value in headers if name.lower() == wanted), "")


async def _copy_body(reader, writer, headers, until_end: bool) -> bool:
    """Copies a message's body. False: it ended with the connection."""
    if "chunked" in _value(headers, "transfer-encoding").lower():
        while True:
            line = await reader.readuntil(b"\r\n")
            writer.write(line)
            size = int(line.split(b";")[0], 16)
            writer.write(await reader.readexactly(size + 2))
            await writer.drain()
            if size == 0:
                return True
    length = _value(headers, "content-length")
    if length:
        left = int(length)
        while left > 0:
            part = await reader.read(min(left, 1 << 16))
            if not part:
                raise ConnectionError("ended in a body")
            left -= len(part)
            writer.write(part)
            await writer.drain()
        return True
    if until_end:
        await _pump(reader, writer)
        return False
    return True


async def _pump(reader, writer) -> None:
    while part := await reader.read(1 << 16):
        writer.write(part)
        await writer.drain()


class Front:
    def __init__(self, supervisor: Supervisor, pair: Pair, client_ca: str, server_ca: str, proxy: Pair, api_port: int):
        self.supervisor, self.api_port = supervisor, api_port
        self.pool = ThreadPoolExecutor(8)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair.crt, pair.key)
        self.context.load_verify_locations(client_ca)
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.plain = ssl.create_default_context(cafile=server_ca)
        self.named = ssl.create_default_context(cafile=server_ca)
        self.named.load_cert_chain(proxy.crt, proxy.key)

    def serve(self, address: str, port: int) -> None:
        """Serves until the process ends."""
        started = threading.Event()
        failure: list[OSError] = []

        async def main() -> None:
            try:
                server = await asyncio.start_server(self.connection, address, port, ssl=self.context, limit=MOST_HEAD)
            except OSError as error:
                failure.append(error)
                started.set()
                return
            started.set()
            await server.serve_forever()

        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
        started.wait()
        if failure:
            raise Problem(f"cannot listen on {address}:{port}: {failure[0]}")

    async def connection(self, reader, writer) -> None:
        subject = subject_of(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        behind = None
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                first, headers = _headers(head)
                method, path, _ = first.split(" ", 2)
                if self.supervisor.is_mine(path.partition("?")[0]):
                    await self.answer(reader, writer, method, path, headers, subject)
                    continue
                if behind is None:
                    context = self.named if subject else self.plain
                    behind = await asyncio.open_connection("localhost", self.api_port, ssl=context, limit=MOST_HEAD)
                if not await self.forward(reader, writer, behind, first, headers, subject):
                    return
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError):
            return
        finally:
            for one in (writer, behind[1] if behind else None):
                if one:
                    one.close()

    async def answer(self, reader, writer, method, path, headers, subject) -> None:
        length = int(_value(headers, "content-length") or 0)
        if length > MOST_BODY:
            raise ValueError("body too large")
        body = await reader.readexactly(length)
        lower = {name.lower(): value for name, value in headers}
        loop = asyncio.get_running_loop()
        try:
            status, told = await loop.run_in_executor(self.pool, self.supervisor.answer, method, path, lower, body, subject)
        except Exception as error:  # whoever asked tries again
            say(f"{method} {path}: {error}")
            status, told = 500, str(error)
        data = told if isinstance(told, bytes) else told.encode() if isinstance(told, str) else json.dumps(told).encode()
        kind = "text/plain" if isinstance(told, (bytes, str)) else "application/json"
        writer.write(f"HTTP/1.1 {status} k3s stand-in\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        await writer.drain()

    async def forward(self, reader, writer, behind, first, headers, subject) -> bool:
        """Carries one request to the API server and its answer back. False: the connection is used up."""
        back_reader, back_writer = behind
        sent = [(name, value) for name, value in headers if not name.lower().startswith("x-remote-")]
        if subject:
            sent += [("X-Remote-User", subject[0]), *(("X-Remote-Group", group) for group in subject[1])]
        text = "\r\n".join([first, *(f"{name}: {value}" for name, value in sent), "", ""])
        back_writer.write(text.encode("latin1"))
        if "upgrade" in _value(headers, "connection").lower():
            await _first_to_end(_pump(reader, back_writer), _pump(back_reader, writer))
            return False
        await _copy_body(reader, back_writer, headers, until_end=False)
        await back_writer.drain()
        head = await back_reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        await writer.drain()
        status, answered = _headers(head)
        code = int(status.split(" ")[1])
        if first.startswith("HEAD ") or code in (204, 304):
            return True
        body = asyncio.ensure_future(_copy_body(back_reader, writer, answered, until_end=True))
        while not body.done():
            # A watch may be silent for long: whoever went away must not keep it open.
            await asyncio.wait({body}, timeout=1)
            if not body.done() and reader.at_eof():
                body.cancel()
                return False
        return body.result()


async def _first_to_end(*works) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]
    _, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
