//! Number of records in the flow tables, from the node's memory or from the flag `--flow-table-size`.

use std::str::FromStr;

/// Octets of a record in both families' tables, with the kernel's overhead.
const OCTETS: u64 = 290;
/// Divisor: the part of the node's memory that both tables may take.
const SHARE: u64 = 256;
const LEAST: u32 = 65_536;
const MOST: u32 = 4 << 20;

/// Records in a family's flow table: a power of two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FlowTableSize(pub u32);

impl FromStr for FlowTableSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size: u32 = text.parse().map_err(|_| format!("{text}: expected a number of records"))?;
        if !size.is_power_of_two() {
            return Err(format!("{text}: not a power of two"));
        }
        let needed = u64::from(size) * OCTETS;
        match memory_octets() {
            Some(memory) if needed > memory => Err(format!(
                "{text}: both tables would take {} MiB, and this node has {} MiB",
                needed >> 20,
                memory >> 20
            )),
            _ => Ok(Self(size)),
        }
    }
}

/// The size for this node's memory.
pub fn default_flow_table() -> u32 {
    memory_octets().map_or(LEAST, size_for)
}

/// The largest power of two within that part of the memory and within the limits.
fn size_for(memory: u64) -> u32 {
    let records = u32::try_from(memory / SHARE / OCTETS).unwrap_or(u32::MAX).clamp(LEAST, MOST);
    1 << records.ilog2()
}

fn memory_octets() -> Option<u64> {
    parse_memory(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_follows_the_memory_of_the_node() {
        let gib = |n: u64| n << 30;
        let sizes = [1, 8, 64, 512, 4096].map(|n| size_for(gib(n)));
        assert_eq!(sizes, [65_536, 65_536, 524_288, 4_194_304, 4_194_304]);
        assert_eq!(parse_memory("MemTotal:       24683520 kB\nMemFree: 1 kB\n"), Some(24_683_520 << 10));
        assert_eq!(parse_memory("nothing"), None);
    }

    #[test]
    fn a_bad_size_is_named() {
        assert_eq!("65536".parse(), Ok(FlowTableSize(65_536)));
        for (text, reason) in [
            ("many", "number"),
            ("-1", "number"),
            ("0", "power of two"),
            ("70000", "power of two"),
            ("2147483648", "MiB"),
        ] {
            let err = text.parse::<FlowTableSize>().unwrap_err();
            assert!(err.contains(text) && err.contains(reason), "{err}");
        }
    }
}
