"""Who goes first on the event loop: counted in cost, with a loop that runs one iteration at a time."""

import asyncio

import pytest

from mods_grpc.transport.sockets.turns import CREDIT, MAX_DIRECT_COST, MAX_PUT_OFF, MAX_QUEUED_COST, LoopTurn, Turns


class Peer:
    """A connection with an amount of work that comes in pieces."""

    def __init__(self, turns, log, *, piece=50):
        self.turn = LoopTurn(turns, self.run)
        self.log, self.piece = log, piece
        self.waiting = self.done = 0

    def run(self, max_cost):
        cost = 0
        while self.waiting and cost < max_cost:
            cost += self.piece
            self.waiting -= 1
        self.done += cost
        self.log.append(self)
        return cost, self.waiting > 0

    def receive(self, pieces):
        """Handle new work as a connection does; return whether something was handled at once."""
        self.waiting += pieces
        allowed = self.turn.begin()
        if allowed > 0:
            self.turn.end(self.run(allowed)[0])
        if self.waiting:
            self.turn.queue()
        return allowed > 0


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def iterate(loop, times=1):
    async def once():
        await asyncio.sleep(0)

    for _ in range(times):
        loop.run_until_complete(once())


def quiet_and_busy(loop, turns, log):
    """Return a connection that was quiet for long, and twenty that have more to say than a few iterations take."""
    quiet = Peer(turns, log, piece=5)
    turns.mark += CREDIT
    busy = [Peer(turns, log) for _ in range(20)]
    for peer in busy:
        within(loop, peer.receive, 1_000)
    return quiet, busy


def within(loop, function, *arguments):
    async def once():
        return function(*arguments)

    return loop.run_until_complete(once())


def test_little_work_is_handled_at_once_and_nothing_is_scheduled(loop):
    turns, log = Turns(), []
    peer = Peer(turns, log, piece=1)
    for _ in range(MAX_DIRECT_COST // 2):
        assert within(loop, peer.receive, 1)
    assert not peer.turn.is_queued
    assert turns.direct_cost_left == MAX_DIRECT_COST // 2


def test_a_quiet_connection_goes_first_however_many_busy_ones_wait(loop):
    turns, log = Turns(), []
    quiet, busy = quiet_and_busy(loop, turns, log)
    for _ in range(100):
        assert within(loop, quiet.receive, 1)
        iterate(loop)
    assert quiet.done == 500
    assert sum(peer.done for peer in busy) >= 100 * MAX_QUEUED_COST


def test_the_queue_takes_a_bounded_part_of_each_iteration(loop):
    turns, log = Turns(), []
    busy = [Peer(turns, log) for _ in range(20)]
    for peer in busy:
        within(loop, peer.receive, 1_000)
    before = sum(peer.done for peer in busy)
    for number in range(1, 50):
        iterate(loop)
        done = sum(peer.done for peer in busy) - before
        assert done <= 3 * number * (MAX_QUEUED_COST + busy[0].piece)  # `iterate` runs the loop up to three times


def test_busy_connections_get_equal_parts_of_the_cost_whatever_their_pieces(loop):
    turns, log = Turns(), []
    busy = [Peer(turns, log, piece=piece) for piece in (3, 30, 300)]
    for peer in busy:
        within(loop, peer.receive, 100_000)
    iterate(loop, 300)
    done = [peer.done for peer in busy]
    assert max(done) - min(done) <= 2 * (MAX_DIRECT_COST + 300)
    assert min(done) > 10_000


def test_a_connection_that_was_quiet_for_long_has_no_more_advantage_than_its_credit(loop):
    turns, log = Turns(), []
    busy, late = Peer(turns, log), Peer(turns, log)
    within(loop, busy.receive, 100_000)
    iterate(loop, 200)
    within(loop, late.receive, 100_000)
    before, since = busy.done, late.done
    iterate(loop, 100)
    assert busy.done - before > 0
    assert (late.done - since) - (busy.done - before) <= CREDIT + MAX_DIRECT_COST


def test_what_exceeds_the_direct_cost_of_an_iteration_is_handled_in_the_next(loop):
    turns, log = Turns(), []
    first, second = Peer(turns, log, piece=MAX_DIRECT_COST), Peer(turns, log, piece=1)

    def both():
        return first.receive(1), second.receive(1)

    assert within(loop, both) == (True, False)
    iterate(loop)
    assert second.done == 1
    assert not second.turn.is_queued


def test_a_turn_that_fails_does_not_stop_the_others(loop):
    turns, log = Turns(), []
    failing, other = LoopTurn(turns, lambda _: 1 // 0), Peer(turns, log)
    loop.set_exception_handler(lambda *_: log.append("failed"))

    def both():
        failing.queue()
        other.waiting = 1
        other.turn.queue()

    within(loop, both)
    iterate(loop, 3)
    assert log == ["failed", other]


def test_while_others_wait_a_quiet_connection_gets_no_more_at_once_than_they(loop):
    turns, log = Turns(), []
    busy, late = Peer(turns, log), Peer(turns, log, piece=1)
    turns.mark += CREDIT

    def both():
        busy.receive(1_000)
        turns.direct_cost_left = MAX_DIRECT_COST
        late.receive(1_000)
        return late.done

    assert within(loop, both) == MAX_QUEUED_COST


def test_a_quiet_connection_goes_before_those_that_connected_just_now(loop):
    turns, log = Turns(), []
    quiet, busy = Peer(turns, log), Peer(turns, log)
    within(loop, busy.receive, 1_000)
    iterate(loop, 300)
    new = [Peer(turns, log, piece=300) for _ in range(20)]

    def all_at_once():
        log.clear()
        turns.direct_cost_left = 0
        for peer in [*new, quiet]:
            peer.receive(1)

    within(loop, all_at_once)
    iterate(loop, 30)
    assert log[0] is quiet
    assert len(log) == 21


def test_peers_that_connect_again_and_again_do_not_hold_up_one_that_stays(loop):
    turns, log, waits = Turns(), [], []
    staying = Peer(turns, log, piece=20)
    attackers = [Peer(turns, log, piece=300) for _ in range(40)]

    def connect_again():
        for index, peer in enumerate(attackers):
            if peer.done:
                attackers[index] = Peer(turns, log, piece=300)
            if not attackers[index].waiting:
                attackers[index].receive(1)

    for iteration in range(2_000):
        within(loop, connect_again)
        if iteration % 8 == 0:
            log.clear()
            within(loop, staying.receive, 1)
        elif not staying.waiting and staying in log:
            waits.append(log.index(staying))
            log.clear()
    assert len(waits) > 200
    assert max(waits[10:]) <= 4


def test_a_new_connection_waits_for_two_turns_of_each_that_is_busy_at_most(loop):
    turns, log = Turns(), []
    busy = [Peer(turns, log) for _ in range(20)]
    for peer in busy:
        within(loop, peer.receive, 10_000)
    iterate(loop, 300)
    new = Peer(turns, log)
    log.clear()
    within(loop, new.receive, 1)
    iterate(loop, 50)
    assert log.index(new) <= 2 * len(busy) + 4


def test_the_queue_waits_for_a_call_of_a_quiet_connection_and_is_never_starved(loop):
    turns, log = Turns(), []
    quiet, busy = quiet_and_busy(loop, turns, log)

    async def call_again_and_again(times, pause):
        for _ in range(times):
            quiet.receive(1)
            for _ in range(pause):
                await asyncio.sleep(0)
                done.append(sum(peer.done for peer in busy))

    iterate(loop, 10)
    done = []
    loop.run_until_complete(call_again_and_again(1, MAX_PUT_OFF + 2))
    assert done[MAX_PUT_OFF - 1] == done[0] < done[MAX_PUT_OFF + 1]
    before = done[-1]
    loop.run_until_complete(call_again_and_again(40, 1))
    assert done[-1] - before >= 40 // (MAX_PUT_OFF + 1) * MAX_QUEUED_COST * 0.8
