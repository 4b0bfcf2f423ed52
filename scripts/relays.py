"""Relays that can be cut, for scripts/faults: what goes through one is lost while it is, as on a network that is parted."""

import select
import socket
import threading

# How often a relay looks whether it is still wanted.
LOOK_S = 0.02
# More than any datagram.
BYTES_MAX = 65_536


class Relay:
    """Relays from `address` to a target on a thread of its own, until `end`. `carried` counts the bytes that went through, both ways."""

    def __init__(self, near, target):
        self.near, self.target = near, target
        self.address = "{}:{}".format(*near.getsockname())
        self.is_cut, self.is_over, self.carried = False, False, 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.is_over:
            self.turn()

    def cut(self):
        """Loses all that goes through from now on, and tells nobody."""
        self.is_cut = True

    def mend(self):
        self.is_cut = False

    def end(self):
        self.is_over = True
        self.thread.join()
        self.near.close()


class TcpRelay(Relay):
    """Relays connections."""

    def __init__(self, target):
        # Each end of a connection with the other, and the ends that something is missing of.
        self.others, self.broken = {}, set()
        super().__init__(socket.create_server(("127.0.0.1", 0)), target)

    def turn(self):
        if not self.is_cut:
            # Bytes are missing in the middle: no connection outlives that.
            for end in list(self.broken):
                self.close(end)
        for end in select.select([self.near, *self.others], [], [], LOOK_S)[0]:
            if end is self.near:
                self.accept()
            elif end in self.others:
                self.pass_on(end)

    def accept(self):
        near, _ = self.near.accept()
        try:
            far = socket.create_connection(self.target)
        except OSError:
            near.close()
            return
        for end, other in ((near, far), (far, near)):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.others[end] = other

    def pass_on(self, end):
        try:
            data = end.recv(BYTES_MAX)
            if data and self.is_cut:
                self.broken.add(end)
            elif data:
                self.others[end].sendall(data)
                self.carried += len(data)
        except OSError:
            data = b""
        if not data:
            self.close(end)

    def close(self, end):
        for one in (end, self.others.get(end)):
            self.broken.discard(one)
            if self.others.pop(one, None):
                one.close()

    def end(self):
        super().end()
        for end in list(self.others):
            self.close(end)


class UdpRelay(Relay):
    """Relays datagrams, and what is answered back to who sent them."""

    def __init__(self, target):
        # A socket for each who sends, and who sends by its socket.
        self.fars, self.senders = {}, {}
        near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        near.bind(("127.0.0.1", 0))
        super().__init__(near, target)

    def turn(self):
        for end in select.select([self.near, *self.senders], [], [], LOOK_S)[0]:
            try:
                data, sender = end.recvfrom(BYTES_MAX)
                if self.is_cut:
                    continue
                if end is self.near:
                    self.carried += self.far(sender).send(data)
                else:
                    self.carried += self.near.sendto(data, self.senders[end])
            except OSError:
                # Nobody is there, for a process that is gone has no port: the datagram is lost, as datagrams are.
                continue

    def far(self, sender):
        if sender not in self.fars:
            far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            far.connect(self.target)
            self.fars[sender], self.senders[far] = far, sender
        return self.fars[sender]

    def end(self):
        super().end()
        for far in self.senders:
            far.close()
