//! IPsec policies of the node (xfrm), read by netlink. Redirected packets bypass them.

use std::io;

use super::netlink::{NLM_F_DUMP, attribute, exchange, message};

/// Linux/xfrm.h.
const XFRM_MSG_NEWPOLICY: u16 = 0x13;
const XFRM_MSG_GETPOLICY: u16 = 0x15;
const XFRMA_TMPL: u16 = 5;
const XFRMA_IF_ID: u16 = 31;
const XFRM_POLICY_OUT: u8 = 1;
const XFRM_POLICY_BLOCK: u8 = 1;

/// Octets of `struct xfrm_userpolicy_id` and of `struct xfrm_userpolicy_info`.
const ID: usize = 64;
const INFO: usize = 168;
/// Offsets in `struct xfrm_userpolicy_info`, which begins with its selector.
const DPORT_MASK: usize = 34;
const SPORT_MASK: usize = 38;
const PROTO: usize = 44;
const DIR: usize = 160;
const ACTION: usize = 161;

/// A policy of this network namespace encrypts or blocks packets that leave, and svc's redirects bypass it. Policies of an xfrm
/// interface do not count: the route leads to it. Nor do those for single UDP ports: the outer packets of a tunnel, which
/// the stack sends.
pub fn has_bypassed_policy() -> io::Result<bool> {
    let mut found = false;
    let request = message(XFRM_MSG_GETPOLICY, NLM_F_DUMP, &[0; ID]);
    exchange(libc::NETLINK_XFRM, &request, |kind, body| {
        found |= kind == XFRM_MSG_NEWPOLICY && is_bypassed(body);
    })?;
    Ok(found)
}

fn is_bypassed(policy: &[u8]) -> bool {
    let (Some(info), Some(attributes)) = (policy.get(..INFO), policy.get(INFO..)) else { return false };
    let octet = |at: usize| info.get(at).copied().unwrap_or_default();
    let is_for_port = [DPORT_MASK, SPORT_MASK].iter().any(|at| octet(*at) != 0 || octet(at + 1) != 0);
    let is_of_tunnel = octet(PROTO) == libc::IPPROTO_UDP as u8 && is_for_port;
    octet(DIR) == XFRM_POLICY_OUT
        && !is_of_tunnel
        && (attribute(attributes, XFRMA_TMPL).is_some() || octet(ACTION) == XFRM_POLICY_BLOCK)
        && attribute(attributes, XFRMA_IF_ID).is_none_or(|id| id.iter().all(|octet| *octet == 0))
}

#[cfg(test)]
mod tests {
    use super::super::netlink::push_attribute;
    use super::*;

    /// A policy as the kernel sends it: what it is for, and its attributes.
    fn policy(direction: u8, proto: u8, dport_mask: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![0; INFO];
        (body[DIR], body[PROTO], body[DPORT_MASK]) = (direction, proto, dport_mask);
        attributes.iter().for_each(|(kind, value)| push_attribute(&mut body, *kind, value));
        body
    }

    #[test]
    fn a_policy_for_packets_that_leave_is_bypassed_unless_the_stack_sends_them() {
        let template = (XFRMA_TMPL, &[0; 64][..]);
        assert!(is_bypassed(&policy(XFRM_POLICY_OUT, 0, 0, &[template])));
        assert!(is_bypassed(&policy(XFRM_POLICY_OUT, 17, 0, &[template])));
        let interface = |id: u8| (XFRMA_IF_ID, [id, 0, 0, 0]);
        for (id, expected) in [(0, true), (7, false)] {
            let (kind, value) = interface(id);
            assert_eq!(is_bypassed(&policy(XFRM_POLICY_OUT, 0, 0, &[template, (kind, &value)])), expected);
        }
        let mut block = policy(XFRM_POLICY_OUT, 0, 0, &[]);
        block[ACTION] = XFRM_POLICY_BLOCK;
        assert!(is_bypassed(&block));
        // Packets that arrive, a policy that lets packets pass, a tunnel's port, and a message that is cut off.
        assert!(!is_bypassed(&policy(0, 0, 0, &[template])));
        assert!(!is_bypassed(&policy(XFRM_POLICY_OUT, 0, 0, &[])));
        assert!(!is_bypassed(&policy(XFRM_POLICY_OUT, 17, 0xff, &[template])));
        assert!(!is_bypassed(&[0; 20]));
    }
}
