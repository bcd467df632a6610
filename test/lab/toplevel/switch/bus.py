"""The little of D-Bus that the stand-in needs: method calls and signals on the system bus, in little endian."""

import os
import select
import socket
import struct
import time

SYSTEM_BUS = "/run/dbus/system_bus_socket"
CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4
ALIGN = {"y": 1, "g": 1, "v": 1, "n": 2, "q": 2, "b": 4, "i": 4, "u": 4, "s": 4, "o": 4, "a": 4}
FIXED = {"y": "B", "n": "h", "q": "H", "b": "I", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d"}


class BusError(Exception):
    """An answer that says no, or no answer."""


class Writer:
    def __init__(self):
        self.data = bytearray()

    def align(self, size):
        self.data.extend(b"\0" * (-len(self.data) % size))

    def write(self, kind, value):
        self.align(ALIGN.get(kind[0], 8))
        if kind[0] in FIXED:
            self.data += struct.pack("<" + FIXED[kind[0]], value)
        elif kind in "so":
            raw = value.encode()
            self.data += struct.pack("<I", len(raw)) + raw + b"\0"
        elif kind == "g":
            self.data += bytes([len(value)]) + value.encode() + b"\0"
        else:
            raise ValueError(kind)

    def field(self, code, kind, value):
        self.align(8)
        self.data.append(code)
        self.write("g", kind)
        self.write(kind, value)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def read(self, kind):
        size = ALIGN.get(kind[0], 8)
        self.at += -self.at % size
        if kind[0] in FIXED:
            code = "<" + FIXED[kind[0]]
            (value,) = struct.unpack_from(code, self.data, self.at)
            self.at += struct.calcsize(code)
            return value
        if kind[0] in "so":
            return self.text(self.read("u"))
        if kind[0] == "g":
            return self.text(self.read("y"))
        if kind[0] == "v":
            return self.read(self.read("g"))
        if kind[0] in "({":
            return [self.read(part) for part in split(kind[1:-1])]
        length = self.read("u")
        self.at += -self.at % ALIGN.get(kind[1], 8)
        end = self.at + length
        items = []
        while self.at < end:
            items.append(self.read(kind[1:]))
        return items

    def text(self, length):
        raw = self.data[self.at : self.at + length]
        self.at += length + 1
        return raw.decode("utf-8", "replace")


def split(signature):
    """The complete types of a signature, one after the other."""
    parts, at = [], 0
    while at < len(signature):
        end = at
        while signature[end] == "a":
            end += 1
        if signature[end] in "({":
            depth = 1
            while depth:
                end += 1
                depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(signature[end], 0)
        parts.append(signature[at : end + 1])
        at = end + 1
    return parts


class Bus:
    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.serial, self.buffer, self.signals = 0, b"", []
        self.on_signal = {}
        try:
            self.socket.connect(SYSTEM_BUS)
            uid = str(os.getuid()).encode().hex()
            self.socket.sendall(b"\0AUTH EXTERNAL " + uid.encode() + b"\r\n")
            if not self.socket.recv(512).startswith(b"OK"):
                raise BusError("authentication refused")
            self.socket.sendall(b"BEGIN\r\n")
        except OSError as error:
            raise BusError(str(error)) from error
        self.dbus("Hello")

    def dbus(self, member, *arguments):
        return self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", member, *arguments)

    def match(self, rule):
        self.dbus("AddMatch", ("s", rule))

    def unmatch(self, rule):
        self.dbus("RemoveMatch", ("s", rule))

    def send(self, destination, path, interface, member, arguments):
        self.serial += 1
        body, head = Writer(), Writer()
        for kind, value in arguments:
            body.write(kind, value)
        head.field(1, "o", path)
        head.field(2, "s", interface)
        head.field(3, "s", member)
        head.field(6, "s", destination)
        if arguments:
            head.field(8, "g", "".join(kind for kind, _ in arguments))
        fixed = struct.pack("<BBBBIII", ord("l"), CALL, 0, 1, len(body.data), self.serial, len(head.data))
        message = fixed + bytes(head.data)
        self.socket.sendall(message + b"\0" * (-len(message) % 8) + bytes(body.data))
        return self.serial

    def call(self, destination, path, interface, member, *arguments, timeout=30):
        """Calls a method and waits for its answer; the values of the answer."""
        serial = self.send(destination, path, interface, member, arguments)
        until = time.monotonic() + timeout
        while True:
            message = self.receive(until - time.monotonic())
            if message is None:
                raise BusError(f"{member}: no answer within {timeout} s")
            if message["reply"] != serial:
                self.dispatch(message)
                continue
            if message["kind"] == ERROR:
                raise BusError(str(message["body"][0] if message["body"] else message["error"]))
            return message["body"]

    def process(self, seconds):
        """Takes one message off the bus; whether there was one."""
        message = self.receive(seconds)
        if message is None:
            return False
        self.dispatch(message)
        return True

    def dispatch(self, message):
        if message["kind"] == SIGNAL and message["member"] in self.on_signal:
            self.on_signal[message["member"]](*message["body"])

    def receive(self, seconds):
        until = time.monotonic() + max(0, seconds)
        while True:
            message = self.take()
            if message is not None:
                return message
            left = until - time.monotonic()
            if not select.select([self.socket], [], [], max(0, left))[0]:
                return None
            data = self.socket.recv(65536)
            if not data:
                raise BusError("the bus closed the connection")
            self.buffer += data

    def take(self):
        """A whole message from what was received, if there is one."""
        if len(self.buffer) < 16:
            return None
        kind, body_length, _, fields_length = struct.unpack_from("<xBxxIII", self.buffer)
        start = 16 + fields_length + (-fields_length % 8)
        if len(self.buffer) < start + body_length:
            return None
        fields = {}
        reader = Reader(self.buffer[: 16 + fields_length])
        reader.at = 12
        for code, value in reader.read("a(yv)"):
            fields[code] = value
        body = Reader(self.buffer[start : start + body_length])
        values = [body.read(part) for part in split(fields.get(8, ""))]
        self.buffer = self.buffer[start + body_length :]
        reply = fields.get(5)
        return {"kind": kind, "member": fields.get(3), "error": fields.get(4), "reply": reply, "body": values}
