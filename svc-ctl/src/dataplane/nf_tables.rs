//! Lists the nf_tables chains of this network namespace and their rules, including those of `iptables-nft`. Changes
//! nothing.

use std::io;

use rtnetlink::packet_core::NlasIterator;

use super::netlink::{self, NLM_F_DUMP, attribute, exchange, message, push_attribute};

const SUBSYSTEM: u16 = 10 << 8;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const GET_CHAIN: u16 = SUBSYSTEM | 4;

const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;

const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;

const HOOK_FORWARD: u32 = 2;
const POLICY_DROP: u32 = 0;
/// Octets of `struct nfgenmsg`: family, version, resource.
const HEADER: usize = 4;

const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const DROP: i32 = 0;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const TARGET_NAME: u16 = 1;
const LOOKUP_REGISTER: u16 = 3;
const VERDICT_REGISTER: u32 = 0;
const CONNTRACK_KEY: u16 = 2;
const CONNTRACK_STATE: u32 = 0;
const BITWISE_MASK: u16 = 4;
/// `NF_CT_STATE_INVALID_BIT`, in the machine's byte order.
const INVALID: u32 = 1;

/// A chain and its effect on forwarded packets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Chain {
    /// Of `NFPROTO_*`.
    pub family: u8,
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
    exchange(libc::NETLINK_NETFILTER, &message(GET_CHAIN, NLM_F_DUMP, &[0; HEADER]), |kind, body| {
        if kind == NEW_CHAIN {
            let family = body.first().copied().unwrap_or_default();
            chains.push(Chain { family, ..chain(body.get(HEADER..).unwrap_or_default()) });
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

/// A rule, as far as it can end a packet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rule {
    /// It drops, rejects or queues packets that it matches, unless these are only those that conntrack finds invalid. A map of
    /// verdicts counts, because its elements are not read.
    pub drops: bool,
    /// The chain of the same table in which it goes on.
    pub next: Option<String>,
}

/// The rules of a chain.
pub fn rules(chain: &Chain) -> io::Result<Vec<Rule>> {
    let mut body = vec![chain.family, 0, 0, 0];
    for (kind, name) in [(RULE_TABLE, &chain.table), (RULE_CHAIN, &chain.name)] {
        push_attribute(&mut body, kind, &netlink::text(name));
    }
    let mut rules = Vec::new();
    exchange(libc::NETLINK_NETFILTER, &message(GET_RULE, NLM_F_DUMP, &body), |kind, body| {
        if kind == NEW_RULE {
            rules.push(rule(body.get(HEADER..).unwrap_or_default()));
        }
    })?;
    Ok(rules)
}

/// Parses a rule's attributes. What is cut off counts as absent.
fn rule(attributes: &[u8]) -> Rule {
    let mut rule = Rule::default();
    let (mut reads_state, mut is_of_invalid) = (false, false);
    let expressions = attribute(attributes, RULE_EXPRESSIONS).unwrap_or_default();
    for expression in NlasIterator::new(expressions).map_while(Result::ok) {
        let name = attribute(expression.value(), EXPRESSION_NAME).map(text).unwrap_or_default();
        let data = attribute(expression.value(), EXPRESSION_DATA).unwrap_or_default();
        match name.as_str() {
            "ct" => reads_state = attribute(data, CONNTRACK_KEY).and_then(number) == Some(CONNTRACK_STATE),
            "bitwise" => {
                let mask = attribute(data, BITWISE_MASK).and_then(|mask| attribute(mask, DATA_VALUE));
                let mask = mask.and_then(|mask| mask.first_chunk()).map(|mask| u32::from_ne_bytes(*mask));
                is_of_invalid = reads_state && mask == Some(INVALID);
            }
            "immediate" => {
                let verdict = attribute(data, IMMEDIATE_DATA).and_then(|data| attribute(data, DATA_VERDICT));
                let verdict = verdict.unwrap_or_default();
                match attribute(verdict, VERDICT_CODE).and_then(number).map(u32::cast_signed) {
                    Some(DROP) => rule.drops |= !is_of_invalid,
                    Some(JUMP | GOTO) => rule.next = attribute(verdict, VERDICT_CHAIN).map(text),
                    _ => {}
                }
            }
            "reject" | "queue" => rule.drops = true,
            "target" => {
                let target = attribute(data, TARGET_NAME).map(text).unwrap_or_default();
                rule.drops |= ["DROP", "REJECT", "NFQUEUE"].contains(&target.as_str());
            }
            "lookup" => {
                let register = attribute(data, LOOKUP_REGISTER).and_then(number);
                rule.drops |= register == Some(VERDICT_REGISTER) && !reads_state;
            }
            _ => {}
        }
    }
    rule
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

    fn encoded(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        push_attribute(&mut all, kind, value);
        all
    }

    fn words(hook: u32, policy: u32) -> Vec<u8> {
        let hook = [encoded(HOOK_NUMBER, &hook.to_be_bytes()), encoded(2, &0u32.to_be_bytes())].concat();
        [
            encoded(CHAIN_TABLE, b"filter\0"),
            encoded(2, &7u64.to_be_bytes()),
            encoded(CHAIN_NAME, b"FORWARD\0"),
            encoded(CHAIN_HOOK | 0x8000, &hook),
            encoded(CHAIN_POLICY, &policy.to_be_bytes()),
        ]
        .concat()
    }

    #[test]
    fn a_chain_is_read_with_its_hook_and_policy() {
        let forward = Chain {
            family: 0,
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

    fn expression(name: &str, data: &[u8]) -> Vec<u8> {
        let name = encoded(EXPRESSION_NAME, &[name.as_bytes(), &[0]].concat());
        encoded(1, &[name, encoded(EXPRESSION_DATA, data)].concat())
    }

    fn verdict(code: i32, chain: &str) -> Vec<u8> {
        let code = encoded(VERDICT_CODE, &code.to_be_bytes());
        let chain = encoded(VERDICT_CHAIN, &[chain.as_bytes(), &[0]].concat());
        let data = encoded(DATA_VERDICT, &[code, chain].concat());
        let register = encoded(1, &VERDICT_REGISTER.to_be_bytes());
        expression("immediate", &[register, encoded(IMMEDIATE_DATA, &data)].concat())
    }

    fn of(expressions: &[Vec<u8>]) -> Rule {
        let names = [encoded(RULE_TABLE, b"filter\0"), encoded(RULE_CHAIN, b"FORWARD\0")].concat();
        rule(&[names, encoded(RULE_EXPRESSIONS, &expressions.concat())].concat())
    }

    #[test]
    fn a_rule_is_read_with_its_verdict() {
        let drops = Rule { drops: true, next: None };
        assert_eq!(of(&[verdict(DROP, "")]), drops);
        assert_eq!(of(&[expression("counter", &[]), verdict(1, "")]), Rule::default());
        for code in [JUMP, GOTO] {
            let next = Some("my-policies".to_owned());
            assert_eq!(of(&[verdict(code, "my-policies")]), Rule { drops: false, next });
        }
        assert_eq!(of(&[expression("reject", &[])]), drops);
        assert_eq!(of(&[expression("target", &encoded(TARGET_NAME, b"NFQUEUE\0"))]), drops);
        assert_eq!(of(&[expression("target", &encoded(TARGET_NAME, b"LOG\0"))]), Rule::default());
        let lookup = |register: u32| expression("lookup", &encoded(LOOKUP_REGISTER, &register.to_be_bytes()));
        assert_eq!(of(&[lookup(VERDICT_REGISTER)]), drops);
        assert_eq!(of(&[lookup(1)]), Rule::default());
    }

    #[test]
    fn a_rule_that_drops_only_what_is_invalid_drops_nothing_else() {
        let state = expression("ct", &encoded(CONNTRACK_KEY, &CONNTRACK_STATE.to_be_bytes()));
        let mask = |bits: u32| {
            expression("bitwise", &encoded(BITWISE_MASK, &encoded(DATA_VALUE, &bits.to_ne_bytes())))
        };
        assert!(!of(&[state.clone(), mask(INVALID), verdict(DROP, "")]).drops);
        assert!(of(&[state.clone(), mask(INVALID | 8), verdict(DROP, "")]).drops);
        // A mark with the same mask.
        let mark = expression("ct", &encoded(CONNTRACK_KEY, &3u32.to_be_bytes()));
        assert!(of(&[mark, mask(INVALID), verdict(DROP, "")]).drops);
        let lookup = expression("lookup", &encoded(LOOKUP_REGISTER, &VERDICT_REGISTER.to_be_bytes()));
        assert!(!of(&[state, lookup]).drops);
    }
}
