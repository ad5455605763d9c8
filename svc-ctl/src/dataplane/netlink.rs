//! Synchronous netlink requests about traffic control: lists the filters of a clsact qdisc, and removes the qdisc.
//! `sock_diag` has the requests about sockets.

use std::io::{self, Read as _};

use socket2::{Domain, Protocol, Socket, Type};

use super::hooks::TcHook;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const NLM_F_REQUEST: u16 = 1;
pub(super) const NLM_F_ACK: u16 = 4;
pub(super) const NLM_F_DUMP: u16 = 0x300;
const TCA_KIND: u16 = 1;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
/// The upper bits of an attribute's type are flags.
const NLA_TYPE_MASK: u16 = 0x3fff;

const CLSACT_PARENT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS_PARENT: u32 = 0xffff_fff2;
const EGRESS_PARENT: u32 = 0xffff_fff3;

/// Octets of a message's header, and of the `struct tcmsg` or `struct ifinfomsg` behind it.
const HEADER: usize = 16;
const IFINFOMSG: usize = 16;
#[cfg(test)]
const TCMSG: usize = 20;

/// Priorities of the filters at a hook of an interface's clsact qdisc; empty if there is no such qdisc.
pub fn filter_priorities(index: u32, hook: TcHook) -> io::Result<Vec<u16>> {
    let parent = match hook {
        TcHook::Ingress => INGRESS_PARENT,
        TcHook::Egress => EGRESS_PARENT,
    };
    let mut priorities = Vec::new();
    let request = tc_message(RTM_GETTFILTER, NLM_F_DUMP, index, 0, parent, None);
    exchange(libc::NETLINK_ROUTE, &request, |kind, body| {
        if kind == RTM_NEWTFILTER
            && let Some(info) = word(body, 16)
        {
            priorities.push((info >> 16) as u16);
        }
    })?;
    Ok(priorities)
}

/// The XDP program of each interface that has one: the interface's index, the program's id.
pub fn xdp_programs() -> io::Result<Vec<(u32, u32)>> {
    let mut found = Vec::new();
    let request = message(RTM_GETLINK, NLM_F_DUMP, &[0; IFINFOMSG]);
    exchange(libc::NETLINK_ROUTE, &request, |kind, body| {
        let (Some(index), Some(rest)) = (word(body, 4), body.get(IFINFOMSG..)) else { return };
        let id = attribute(rest, IFLA_XDP).and_then(|xdp| word(attribute(xdp, IFLA_XDP_PROG_ID)?, 0));
        found.extend(id.filter(|id| kind == RTM_NEWLINK && *id != 0).map(|id| (index, id)));
    })?;
    Ok(found)
}

/// The value of an attribute.
pub(super) fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (len, kind) = (usize::from(half(rest, 0)?), half(rest, 2)?);
        let value = rest.get(4..len)?;
        if kind & NLA_TYPE_MASK == wanted {
            return Some(value);
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

/// Removes the clsact qdisc of an interface.
pub fn remove_clsact(index: u32) -> io::Result<()> {
    let request = tc_message(RTM_DELQDISC, NLM_F_ACK, index, CLSACT_HANDLE, CLSACT_PARENT, Some("clsact"));
    exchange(libc::NETLINK_ROUTE, &request, |_, _| {})
}

fn tc_message(kind: u16, flags: u16, index: u32, handle: u32, parent: u32, qdisc: Option<&str>) -> Vec<u8> {
    let mut body = vec![0; 4];
    for value in [index, handle, parent, 0] {
        body.extend(value.to_ne_bytes());
    }
    if let Some(name) = qdisc {
        push_attribute(&mut body, TCA_KIND, &text(name));
    }
    message(kind, flags, &body)
}

/// Appends an attribute and its padding.
pub(super) fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The value of an attribute that is a string.
pub(super) fn text(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

/// A request with its header.
pub(super) fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut whole = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    whole.extend(kind.to_ne_bytes());
    whole.extend((flags | NLM_F_REQUEST).to_ne_bytes());
    // One request per socket, so its sequence number and sender do not matter.
    whole.extend([0; 8]);
    whole.extend(body);
    whole
}

/// Sends a request to a protocol of netlink (`libc::NETLINK_...`), and reads its answers to the end.
pub(super) fn exchange(protocol: i32, request: &[u8], mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
    let mut socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(protocol)))?;
    socket.send(request)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let len = socket.read(&mut buffer)?;
        if read_answers(buffer.get(..len).unwrap_or_default(), &mut each)? {
            return Ok(());
        }
    }
}

/// Reads one datagram; true if it holds the end.
fn read_answers(mut rest: &[u8], each: &mut impl FnMut(u16, &[u8])) -> io::Result<bool> {
    while let Some(len) = word(rest, 0) {
        let len = len as usize;
        let (Some(kind), Some(body)) = (half(rest, 4), rest.get(HEADER..len)) else {
            return Err(io::Error::other("a netlink answer is cut off"));
        };
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                return match word(body, 0).unwrap_or_default() as i32 {
                    0 => Ok(true),
                    code => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
                };
            }
            _ => each(kind, body),
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_ne_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_kernels_layout() {
        let m = tc_message(RTM_DELQDISC, NLM_F_ACK, 7, CLSACT_HANDLE, CLSACT_PARENT, Some("clsact"));
        assert_eq!((m.len(), word(&m, 0)), (HEADER + TCMSG + 12, Some(48)));
        assert_eq!((half(&m, 4), half(&m, 6)), (Some(37), Some(5)));
        assert_eq!(
            (word(&m, 20), word(&m, 24), word(&m, 28)),
            (Some(7), Some(0xffff_0000), Some(0xffff_fff1))
        );
        assert_eq!((half(&m, 36), half(&m, 38), m.get(40..47)), (Some(11), Some(1), Some(&b"clsact\0"[..])));
    }

    #[test]
    fn answers_are_read_to_their_end_and_errors_are_returned() {
        let answer = |kind: u16, first: i32| {
            let mut m = tc_message(kind, 0, 0, 0, 0, None);
            m.splice(16..20, first.to_ne_bytes());
            m
        };
        let mut seen = Vec::new();
        let mut both = answer(RTM_NEWTFILTER, 0);
        both.extend(answer(NLMSG_DONE, 0));
        assert!(read_answers(&both, &mut |kind, _| seen.push(kind)).unwrap());
        assert_eq!(seen, [RTM_NEWTFILTER]);
        assert!(!read_answers(&answer(RTM_NEWTFILTER, 0), &mut |_, _| {}).unwrap());
        let err = read_answers(&answer(NLMSG_ERROR, -libc::ENOENT), &mut |_, _| {}).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::NotFound);
        assert!(read_answers(&[40, 0, 0, 0, 1], &mut |_, _| {}).is_err());
    }

    #[test]
    fn an_attribute_is_found_among_others_and_a_cut_one_is_none() {
        // Padding, a nested attribute with the flag of nesting, and one whose length is wrong.
        let attributes = [6, 0, 1, 0, 9, 9, 0, 0, 12, 0, 43, 0x80, 8, 0, 4, 0, 7, 0, 0, 0, 3, 0, 5, 0];
        let xdp = attribute(&attributes, IFLA_XDP).unwrap();
        assert_eq!(attribute(xdp, IFLA_XDP_PROG_ID), Some(&[7, 0, 0, 0][..]));
        assert_eq!(attribute(&attributes, 5), None);
        assert_eq!(attribute(&[], 1), None);
    }

    #[test]
    fn an_interface_without_qdisc_has_no_filters() {
        assert_eq!(filter_priorities(1, TcHook::Ingress).unwrap(), Vec::<u16>::new());
    }
}
