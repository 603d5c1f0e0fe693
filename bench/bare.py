"""The reference: a bare paho subscriber that does nothing with a message but acknowledge it. QoS 1, manual ack, a
persistent session; ordinary client code."""

import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
from paho.mqtt import client as mqtt

from bench.board import Board
from bench.load import Login
from ingest.connection import Address


class Plan(msgspec.Struct):
    """What the subscriber is told on its standard input."""

    board: str
    login: Login
    client_id: str
    topic: str


def main() -> None:
    plan = msgspec.json.decode(sys.stdin.readline(), type=Plan)
    board = Board(Path(plan.board))
    login = plan.login
    address = Address(login.host, login.port, login.username, login.password)
    client = address.client(plan.client_id, clean_session=False, manual_ack=True)
    taken = 0

    def on_message(client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        nonlocal taken
        client.ack(message.mid, message.qos)
        taken += 1
        board["taken"] = taken

    client.on_message = on_message
    client.on_connect = lambda client, *_: client.subscribe(plan.topic, 1)
    client.on_subscribe = lambda *_: print("ready", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: client.disconnect())
    client.connect(login.host, login.port)
    client.loop_forever()


if __name__ == "__main__":
    main()
