//! Lists the nf_tables chains of this network namespace, including those of `iptables-nft`. Changes nothing.

use std::io;

use nix::sys::socket::SockProtocol;
use rtnetlink::packet_core::NlasIterator;

use super::netlink::{NLM_F_DUMP, exchange, message};

const SUBSYSTEM: u16 = 10 << 8;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const GET_CHAIN: u16 = SUBSYSTEM | 4;

const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;

const HOOK_FORWARD: u32 = 2;
const POLICY_DROP: u32 = 0;
/// Octets of `struct nfgenmsg`.
const HEADER: usize = 4;

/// A chain and its effect on forwarded packets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Chain {
    pub table: String,
    pub name: String,
    /// The kernel runs it for forwarded packets.
    pub is_at_forward: bool,
    /// Its policy is to drop.
    pub drops: bool,
}

/// All chains. None if the kernel has not loaded nf_tables; a request would load it.
pub fn chains() -> io::Result<Vec<Chain>> {
    let modules = std::fs::read_to_string("/proc/modules");
    if modules.is_ok_and(|modules| !modules.lines().any(|line| line.starts_with("nf_tables "))) {
        return Ok(Vec::new());
    }
    let mut chains = Vec::new();
    exchange(SockProtocol::NetlinkNetFilter, &message(GET_CHAIN, NLM_F_DUMP, &[0; HEADER]), |kind, body| {
        if kind == NEW_CHAIN {
            chains.push(chain(body.get(HEADER..).unwrap_or_default()));
        }
    })?;
    Ok(chains)
}

/// Parses a chain's attributes. Truncated ones are left out.
fn chain(attributes: &[u8]) -> Chain {
    let mut chain = Chain::default();
    for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
        let value = attribute.value();
        match attribute.kind() {
            CHAIN_TABLE => chain.table = text(value),
            CHAIN_NAME => chain.name = text(value),
            CHAIN_HOOK => {
                let mut parts = NlasIterator::new(value).map_while(Result::ok);
                let hook = parts.find(|part| part.kind() == HOOK_NUMBER);
                chain.is_at_forward = hook.is_some_and(|hook| number(hook.value()) == Some(HOOK_FORWARD));
            }
            CHAIN_POLICY => chain.drops = number(value) == Some(POLICY_DROP),
            _ => {}
        }
    }
    chain
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|octets| u32::from_be_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut all = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        all.extend(kind.to_ne_bytes());
        all.extend(value);
        all.resize(all.len().next_multiple_of(4), 0);
        all
    }

    fn words(hook: u32, policy: u32) -> Vec<u8> {
        let hook = [attribute(HOOK_NUMBER, &hook.to_be_bytes()), attribute(2, &0u32.to_be_bytes())].concat();
        [
            attribute(CHAIN_TABLE, b"filter\0"),
            attribute(2, &7u64.to_be_bytes()),
            attribute(CHAIN_NAME, b"FORWARD\0"),
            attribute(CHAIN_HOOK | 0x8000, &hook),
            attribute(CHAIN_POLICY, &policy.to_be_bytes()),
        ]
        .concat()
    }

    #[test]
    fn a_chain_is_read_with_its_hook_and_policy() {
        let forward = Chain {
            table: "filter".to_owned(),
            name: "FORWARD".to_owned(),
            is_at_forward: true,
            drops: true,
        };
        assert_eq!(chain(&words(2, 0)), forward);
        assert_eq!(chain(&words(2, 1)), Chain { drops: false, ..forward.clone() });
        assert_eq!(chain(&words(1, 0)), Chain { is_at_forward: false, ..forward });
    }

    #[test]
    fn a_chain_that_is_cut_off_anywhere_is_read_as_far_as_it_goes() {
        let whole = words(2, 0);
        for length in 0..whole.len() {
            let part = chain(&whole[..length]);
            assert!(["", "filter"].contains(&part.table.as_str()), "{part:?}");
        }
    }
}
