//! Connection state of a flow, and the lifetime that follows from it (SEM-123).

use crate::abi::{Direction, FlowState};
use crate::addr::Proto;
use crate::wire::ip::tcp;

/// Length of one tick of a record's stamp, as a shift of nanoseconds: 2^30 ns, a little more than a second.
pub const STAMP_SHIFT: u32 = 30;

/// Ticks for which the source port of a closed connection is not reused while other ports are free: its backend may
/// be in TIME_WAIT that long (Linux: 60 s).
pub const CLOSED_PORT_REST: u32 = 60;

/// Ticks since `stamp` at `now`. A stamp in the future (from another CPU's clock) counts as now.
#[inline(always)]
pub const fn age(now: u32, stamp: u32) -> u32 {
    let age = now.wrapping_sub(stamp);
    if age > u32::MAX / 2 { 0 } else { age }
}

/// The state after a packet that came `ticks` after the previous one. Datagrams over two ticks or more are a stream.
#[inline(always)]
pub fn observe_time(state: FlowState, proto: Proto, ticks: u32) -> FlowState {
    if proto != Proto::UDP || ticks == 0 {
        return state;
    }
    let is_stream = ticks > 1 || state.has(FlowState::LATER_TICK);
    state.with(if is_stream { FlowState::STREAM } else { FlowState::LATER_TICK })
}

/// The state after a packet of a direction with these TCP flags. The caller looks up the next hop of a changed record.
#[inline(always)]
pub fn observe(state: FlowState, direction: Direction, proto: Proto, flags: u8) -> FlowState {
    let mut next = FlowState(state.0 & !FlowState::NEXT_HOP_DUE.0);
    if direction == Direction::REVERSE {
        next = next.with(FlowState::REPLIED);
    }
    if proto == Proto::TCP {
        if direction == Direction::FORWARD && flags & (tcp::ACK | tcp::SYN | tcp::RST) == tcp::ACK {
            next = next.with(FlowState::ESTABLISHED);
        }
        if flags & tcp::FIN != 0 {
            next = next.with(if direction == Direction::FORWARD {
                FlowState::FIN_FORWARD
            } else {
                FlowState::FIN_REVERSE
            });
        }
        if flags & tcp::RST != 0 {
            next = next.with(FlowState::RESET);
        } else if state.has(FlowState::RESET) && flags & (tcp::ACK | tcp::SYN) == tcp::ACK {
            next = next.with(if direction == Direction::FORWARD {
                FlowState::CLIENT_AFTER_RESET
            } else {
                FlowState::BACKEND_AFTER_RESET
            });
        }
    } else if direction == Direction::FORWARD && state.has(FlowState::REPLIED) {
        next = next.with(FlowState::ESTABLISHED);
    }
    next
}

/// The states of a flow's two records after each has got the other's events. `own` is the state of the record that the
/// current packet belongs to. `is_due`: the other record's next hop must be looked up.
#[inline(always)]
pub const fn shared(own: FlowState, other: FlowState, is_due: bool) -> (FlowState, FlowState) {
    let both = (own.0 | other.0) & !FlowState::NEXT_HOP_DUE.0;
    let due = if is_due { FlowState::NEXT_HOP_DUE.0 } else { other.0 & FlowState::NEXT_HOP_DUE.0 };
    (FlowState(both), FlowState(both | due))
}

/// Ticks without a packet after which a flow counts as absent.
#[inline(always)]
pub const fn lifetime(proto: Proto, state: FlowState) -> u32 {
    if proto.0 == Proto::SCTP.0 && state.has(FlowState::REPLIED) {
        // Heartbeats come every 30 s (RFC 9260 section 8.3). The same lifetime as in nf_conntrack.
        return 210;
    }
    if proto.0 != Proto::TCP.0 {
        // A query and its answer expire soon, as in nf_conntrack, so that others can have the source port.
        let is_stream = state.has(FlowState::REPLIED) && state.has(FlowState::STREAM);
        return if is_stream { 120 } else { 30 };
    }
    if state.is_reset(proto) {
        10
    } else if state.has(FlowState::FIN_FORWARD) && state.has(FlowState::FIN_REVERSE) {
        120
    } else if state.has(FlowState::FIN_FORWARD) || state.has(FlowState::FIN_REVERSE) {
        3_600
    } else if state.has(FlowState::ESTABLISHED) {
        // Picked up in mid-flow and never answered: short, as in nf_conntrack, so a stray segment does not hold a
        // source port for a day.
        if state.has(FlowState::REPLIED) { 86_400 } else { 300 }
    } else {
        60
    }
}

/// The record has expired, even if it is still in the table.
#[inline(always)]
pub const fn is_expired(proto: Proto, state: FlowState, now: u32, stamp: u32) -> bool {
    age(now, stamp) > lifetime(proto, state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sem_123_the_lifetime_of_a_connection_follows_from_its_state() {
        let (f, r) = (Direction::FORWARD, Direction::REVERSE);
        let steps = [
            (f, tcp::SYN, 60),
            (r, tcp::SYN | tcp::ACK, 60),
            (f, tcp::ACK, 86_400),
            (f, tcp::FIN | tcp::ACK, 3_600),
            (r, tcp::FIN | tcp::ACK, 120),
            (r, tcp::RST, 10),
        ];
        let mut state = FlowState::NEW;
        for (direction, flags, want) in steps {
            state = observe(state, direction, Proto::TCP, flags);
            assert_eq!(lifetime(Proto::TCP, state), want, "{flags}");
        }
        assert!(state.is_closing(Proto::TCP));
    }

    #[test]
    fn a_reset_that_both_sides_ignore_ends_nothing() {
        let (f, r) = (Direction::FORWARD, Direction::REVERSE);
        let lifetime_after = |segments: &[(Direction, u8)]| {
            let live = FlowState::REPLIED.with(FlowState::ESTABLISHED);
            let state =
                segments.iter().fold(live, |state, (d, flags)| observe(state, *d, Proto::TCP, *flags));
            assert_eq!(state.is_closing(Proto::TCP), lifetime(Proto::TCP, state) == 10);
            lifetime(Proto::TCP, state)
        };
        assert_eq!(lifetime_after(&[(f, tcp::RST), (r, tcp::ACK), (f, tcp::ACK)]), 86_400);
        assert_eq!(lifetime_after(&[(r, tcp::RST), (f, tcp::ACK), (r, tcp::ACK)]), 86_400);
        // A packet that was under way, and a reset in return.
        assert_eq!(lifetime_after(&[(f, tcp::RST), (r, tcp::ACK), (f, tcp::RST)]), 10);
        assert_eq!(
            lifetime_after(&[(r, tcp::RST | tcp::ACK), (f, tcp::ACK), (f, tcp::ACK), (r, tcp::RST)]),
            10
        );
        assert_eq!(lifetime_after(&[(f, tcp::ACK), (r, tcp::ACK), (r, tcp::RST)]), 10);
    }

    #[test]
    fn a_connection_picked_up_in_mid_flow_lives_as_long_as_others_once_it_is_answered() {
        let picked_up = observe(FlowState::NEW, Direction::FORWARD, Proto::TCP, tcp::ACK);
        assert_eq!(lifetime(Proto::TCP, picked_up), 300);
        let answered = observe(picked_up, Direction::REVERSE, Proto::TCP, tcp::ACK);
        assert_eq!(lifetime(Proto::TCP, answered), 86_400);
    }

    #[test]
    fn sem_123_an_answered_datagram_flow_lives_longer_once_it_is_a_stream() {
        let (there, back) = (Direction::FORWARD, Direction::REVERSE);
        // Directions and the ticks before each packet; the lifetime afterwards.
        let rows: [(&[(Direction, u32)], u32); 7] = [
            (&[(there, 0)], 30),
            (&[(there, 0), (back, 0)], 30),
            (&[(there, 0), (back, 1)], 30),
            (&[(there, 0), (back, 1), (there, 0), (there, 1)], 120),
            (&[(there, 0), (back, 2)], 120),
            (&[(there, 0), (back, 0), (there, 20)], 120),
            (&[(there, 0), (there, 5), (there, 5)], 30),
        ];
        for (packets, want) in rows {
            let see = |state, &(direction, ticks)| {
                observe_time(observe(state, direction, Proto::UDP, 0), Proto::UDP, ticks)
            };
            let state = packets.iter().fold(FlowState::NEW, see);
            assert_eq!(lifetime(Proto::UDP, state), want, "{packets:?}");
        }
    }

    #[test]
    fn a_flow_is_assured_once_the_client_has_heard_the_backend() {
        let (there, back) = (Direction::FORWARD, Direction::REVERSE);
        const SYN_ACK: u8 = tcp::SYN | tcp::ACK;
        // Protocol, directions and flags of the packets, and whether each leaves the flow assured.
        type Packet = (Direction, u8, bool);
        let rows: [(Proto, &[Packet]); 7] = [
            (Proto::TCP, &[(there, tcp::SYN, false), (back, SYN_ACK, false), (there, tcp::ACK, true)]),
            // Picked up in mid-flow.
            (Proto::TCP, &[(there, tcp::ACK, false), (there, tcp::ACK, false), (back, tcp::ACK, true)]),
            // A stray segment, and the reset that answers it.
            (Proto::TCP, &[(there, tcp::ACK, false), (back, tcp::RST, false)]),
            (Proto::TCP, &[(there, tcp::SYN, false), (there, tcp::SYN, false)]),
            (Proto::TCP, &[(there, tcp::SYN, false), (back, SYN_ACK, false), (there, tcp::RST, false)]),
            (Proto::UDP, &[(there, 0, false), (there, 0, false), (back, 0, false), (there, 0, true)]),
            (Proto::SCTP, &[(there, 0, false), (back, 0, false), (back, 0, false), (there, 0, true)]),
        ];
        for (proto, packets) in rows {
            let mut state = FlowState::NEW;
            for (direction, flags, is_assured) in packets {
                state = observe(state, *direction, proto, *flags);
                assert_eq!(state.is_assured(proto), *is_assured, "{packets:?}");
            }
        }
    }

    #[test]
    fn a_stamp_from_the_future_is_fresh() {
        assert!(!is_expired(Proto::UDP, FlowState::NEW, 5, 6));
        assert!(is_expired(Proto::UDP, FlowState::NEW, 36, 5));
        assert!(!is_expired(Proto::UDP, FlowState::NEW, 2, u32::MAX - 2));
    }
}
