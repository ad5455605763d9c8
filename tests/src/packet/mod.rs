//! Packet rows: tables and a packet go in, the verdict, the whole packet, the counters and the flow records come out,
//! through `BPF_PROG_TEST_RUN`. A row is written once, with names for addresses, and runs for both families.
//!
//! `place` is the little world that the names mean; `wire` are packets in words, `octets` spells
//! them, with the checksums of `sums`;
//! `error` is what a refused sender gets; `flow` spells records, `stay` affinity; `row` is what a test author writes, `begin`
//! its usual end; `maglev` are the tables that a row chooses by, `carried` the flow tables that are being replaced,
//! `entries` what is counted of evicting tables; `tagged` are VLAN tags; `kernel` owns namespace, programs and maps, `lab` puts a row into them; `trial` runs.

mod begin;
pub mod carried;
pub mod entries;
pub mod error;
pub mod flow;
pub mod kernel;
pub mod lab;
pub mod maglev;
pub mod octets;
pub mod place;
pub mod row;
pub mod run;
pub mod sockets;
pub mod stay;
pub mod sums;
pub mod tagged;
pub mod trial;
pub mod wire;
