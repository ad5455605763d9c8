//! Packet rows: tables and a packet go in, the verdict, the whole packet, the counters and the flow records come out,
//! through `BPF_PROG_TEST_RUN`. A row is written once, with names for addresses, and runs for both families.
//!
//! `place` is the network that the names refer to. `wire` describes packets, `octets` writes them, with the checksums
//! of `sums`. `error` is the ICMP error for a refused sender. `flow` prints records, `affinity` session affinity. `row`
//! is the language of test authors, `begin` the usual end of a row. `hash` gives source ports and places in Maglev tables,
//! `maglev` are a row's Maglev tables, `carried` the flow tables that are being replaced, `entries` the counts of evicting
//! tables, `tagged` VLAN tags, `tunnel` packets without an Ethernet header. `kernel` has namespace, programs and maps,
//! `lab` writes a row into them, `trial` runs rows.

pub mod affinity;
mod begin;
pub mod carried;
pub mod entries;
pub mod error;
pub mod flow;
mod hash;
pub mod kernel;
pub mod lab;
pub mod maglev;
pub mod octets;
pub mod place;
pub mod row;
pub mod run;
pub mod sockets;
pub mod sums;
mod table;
pub mod tagged;
mod tracked;
pub mod trial;
pub mod tunnel;
pub mod wire;
