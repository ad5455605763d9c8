//! The harness of the privileged tests and of `cargo xtask run`: namespaces, real sockets, the real daemon.
//!
//! Read in this order: `netns`, `cgroup`, `bpffs` are guards of kernel objects. `agent` is a process in one of them
//! that uses real sockets. `topology` joins them to a client and two nodes with pods. `world` adds manifests and one
//! svc-ctl per node. `matrix` is the table of combinations in a world. `witness` runs the same cases in two worlds,
//! one with kube-proxy. `names` compares svc's DNS with CoreDNS. `scale` measures the daemon with many Services.
//! `packet` is separate: rows of one packet through one program, without sockets; `model` predicts without svc the
//! result for a packet.

pub mod agent;
pub mod attached;
pub mod bpf;
pub mod bpffs;
pub mod cgroup;
pub mod cleanup;
pub mod cluster;
pub mod command;
pub mod conformance;
pub mod daemon;
pub mod family;
pub mod http;
pub mod manifests;
pub mod matrix;
pub mod metrics_page;
pub mod model;
pub mod names;
pub mod netns;
pub mod ownership;
pub mod packet;
pub mod paths;
pub mod run_name;
pub mod scale;
pub mod show;
pub mod standin;
pub mod testbed;
pub mod topology;
pub mod wait;
pub mod witness;
pub mod world;
