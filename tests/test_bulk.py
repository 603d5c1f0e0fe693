"""The subscriber's paho client with its shortcuts; what it does with a real broker is in test_subscriber."""

import select
import socket

from paho.mqtt.enums import CallbackAPIVersion

from ingest.bulk import BulkClient

CONNACK = b"\x20\x02\x00\x00"


def publish(payload: bytes) -> bytes:
    body = b"\x00\x01t\x00\x07" + payload
    return bytes([0x32, len(body)]) + body


def test_what_was_read_ahead_of_a_lost_connection_is_forgotten() -> None:
    heard = []
    client = BulkClient(CallbackAPIVersion.VERSION2, client_id="test", manual_ack=True)
    client.on_message = lambda _, __, message: heard.append(message.payload)
    with socket.create_server(("127.0.0.1", 0)) as server:
        client.connect_async(*server.getsockname())
        for payload in (b"of the old connection", b"of the new connection"):
            client.reconnect()
            peer, _ = server.accept()
            peer.sendall(CONNACK + publish(payload))
            select.select([client.socket()], [], [], 5)
            client.loop_read()
            assert client.has_read_ahead
            peer.close()
        client.loop_read()
    assert heard == [b"of the new connection"]


def test_many_acks_leave_as_one_write_in_their_order() -> None:
    client = BulkClient(CallbackAPIVersion.VERSION2, client_id="test", manual_ack=True)
    client.on_socket_register_write = lambda *_: None
    with socket.create_server(("127.0.0.1", 0)) as server:
        client.connect_async(*server.getsockname())
        client.reconnect()
        peer, _ = server.accept()
        with peer:
            client.loop_write()
            connect = peer.recv(1024)
            client.ack_all([7, 300, 8])
            client.loop_write()
            acks = peer.recv(1024)
    assert connect[0] == 0x10
    assert acks == bytes.fromhex("400200074002012c40020008")
