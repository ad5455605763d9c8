//! The verdict, from the packet as the copy of the program left it.

use std::net::SocketAddr;

use svc_common::abi::{Counter, Direction, FlowKey, FlowRecord};
use svc_common::addr::Proto;
use svc_common::wire::ip::ETH_LEN;

use super::explanation::{Explanation, Verdict};
use crate::dataplane::dry_run::{Action, DryRun, DryRunResult, Net};
use crate::dataplane::encode::Encode;

/// Says that the attached program is of another build than the copy.
pub fn build_step(explanation: &mut Explanation, dry: &DryRun, interface: &str, program: &str) {
    if dry.is_other_build {
        let text = format!(
            "{program} at {interface} is of another build than this svc-ctl, whose copy of it answers: \
             it may decide otherwise"
        );
        explanation.step("program", &[], text);
    }
}

/// Source and destination of a tuple.
pub fn ends<A: Encode>(key: &FlowKey<A>) -> [SocketAddr; 2] {
    [(key.src, key.sport), (key.dst, key.dport)].map(|(addr, port)| (addr.to_ip(), port.number()).into())
}

/// Sets the verdict, and the addresses with which the packet leaves. `record`: the one that decided, if any did.
pub fn judge<F: Net>(
    explanation: &mut Explanation,
    ran: &DryRunResult<F::Addr>,
    frame: &[u8],
    key: &FlowKey<F::Addr>,
    record: Option<&FlowRecord<F::Addr>>,
) {
    let counted = |prefix: &str| {
        let mut labels = ran.counted.iter().copied().map(Counter::label);
        labels.find(|label| label.starts_with(prefix))
    };
    (explanation.verdict, explanation.reason) = match ran.action {
        Action::Drop => (Verdict::Dropped, counted("drop_")),
        Action::Redirect if icmp_error::<F>(&ran.packet).is_some() => (Verdict::Refused, counted("reject_")),
        Action::Pass if ran.passes(frame) => (Verdict::NoService, None),
        Action::Redirect | Action::Pass => (Verdict::Forwarded, None),
    };
    if explanation.verdict != Verdict::Forwarded {
        return;
    }
    let Ok(packet) = F::parse(&ran.packet[..], ETH_LEN) else { return };
    let [source, destination] = ends(&packet.key);
    let second = ran.second.map(|(_, second)| (second.src.to_ip(), second.sport.number()).into());
    let is_reply = record.is_some_and(|record| record.direction == Direction::REVERSE);
    explanation.source = Some(second.unwrap_or(source));
    explanation.destination = Some(destination);
    explanation.backend = Some(if is_reply { ends(key)[0] } else { destination });
}

/// Adds the last step of a packet that is not forwarded.
pub fn end_step<F: Net>(explanation: &mut Explanation, ran: &DryRunResult<F::Addr>) {
    match explanation.verdict {
        Verdict::Refused => {
            let error = icmp_error::<F>(&ran.packet).unwrap_or_default();
            let rules: &[&'static str] =
                if error.ends_with(UNREACHABLE) { &["SEM-091", "SEM-092"] } else { &[] };
            explanation.step(
                "leaves",
                rules,
                format!("{error} to the client, back out of the same interface"),
            );
        }
        Verdict::Dropped => {
            explanation.step("leaves", &["SEM-094"], "it does not: a dropped packet has no answer")
        }
        Verdict::NoService => explanation.step("leaves", &["SEM-088"], "the stack gets the packet as it is"),
        Verdict::Forwarded => {}
    }
}

const UNREACHABLE: &str = "port unreachable";

/// The ICMP error that a frame is, in words. (The programs make no ICMP message with options or extension headers.)
fn icmp_error<F: Net>(frame: &[u8]) -> Option<String> {
    let at = |offset: usize| frame.get(ETH_LEN + offset).copied();
    let (family, kind, code) = match F::ADDR_LEN {
        4 if at(9) == Some(Proto::ICMP.0) => ("ICMP", at(F::IP_LEN)?, at(F::IP_LEN + 1)?),
        16 if at(6) == Some(Proto::ICMPV6.0) => ("ICMPv6", at(F::IP_LEN)?, at(F::IP_LEN + 1)?),
        _ => return None,
    };
    let error = match (family, kind, code) {
        ("ICMP", 3, 3) | ("ICMPv6", 1, 4) => UNREACHABLE.to_owned(),
        ("ICMP", 3, 4) => "fragmentation needed".to_owned(),
        ("ICMPv6", 2, _) => "packet too big".to_owned(),
        ("ICMP", 11, _) | ("ICMPv6", 3, _) => "time exceeded".to_owned(),
        _ => format!("type {kind}, code {code}"),
    };
    Some(format!("{family} {error}"))
}

#[cfg(test)]
mod tests {
    use svc_common::family::{V4, V6};

    use super::*;

    /// A frame with this protocol, and these type and code behind its IP header.
    fn frame(ip_len: usize, proto_at: usize, proto: u8, message: [u8; 2]) -> Vec<u8> {
        let mut frame = vec![0; ETH_LEN + ip_len];
        frame[ETH_LEN + proto_at] = proto;
        frame.extend(message);
        frame
    }

    #[test]
    fn a_refusal_is_named_by_the_packet_that_is_sent() {
        for (message, expected) in [
            ([3, 3], "ICMP port unreachable"),
            ([3, 4], "ICMP fragmentation needed"),
            ([11, 0], "ICMP time exceeded"),
            ([3, 13], "ICMP type 3, code 13"),
        ] {
            assert_eq!(icmp_error::<V4>(&frame(20, 9, Proto::ICMP.0, message)).as_deref(), Some(expected));
        }
        for (message, expected) in [
            ([1, 4], "ICMPv6 port unreachable"),
            ([2, 0], "ICMPv6 packet too big"),
            ([3, 0], "ICMPv6 time exceeded"),
        ] {
            assert_eq!(icmp_error::<V6>(&frame(40, 6, Proto::ICMPV6.0, message)).as_deref(), Some(expected));
        }
        assert_eq!(icmp_error::<V4>(&frame(20, 9, 6, [3, 3])), None);
        assert_eq!(icmp_error::<V6>(&[]), None);
    }
}
