//! The flags of `cargo xtask bench control-plane`; xtask reads this same file and hands them on.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Measure the daemon against a stub API server with many Services
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Measure another proxy beside it, at 10,000 Services
    #[arg(long, value_enum, value_name = "PROXY")]
    pub against: Option<Against>,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Only 100 and 1,000 Services
    #[arg(long, conflicts_with = "columns")]
    pub quick: bool,
    /// Numbers of Services with four endpoints each, separated by commas. `lb10000`: each has a load-balancer address
    /// and 27 % have a NodePort; `dual10000`: dual-stack; `bad10000`: 1 % are refused; `10000x10`: ten endpoints each
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub columns: Vec<Column>,
    /// Measure 10,000 Services against the real API server, too
    #[arg(long)]
    pub real_api_server: bool,
    /// Print the table instead of writing it into docs/performance.md
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Against {
    /// The real kube-proxy in nftables mode
    KubeProxy,
}

/// What the Services of a column look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// ClusterIP, IPv4.
    Plain,
    /// A load-balancer address each, and a NodePort for 27 of 100.
    LoadBalancer,
    /// ClusterIPs and endpoints of both families.
    DualStack,
    /// One of 100 has a ClusterIP that is no address.
    Refused,
}

impl Shape {
    const ALL: [(Self, &str); 4] =
        [(Self::LoadBalancer, "lb"), (Self::DualStack, "dual"), (Self::Refused, "bad"), (Self::Plain, "")];
}

/// A number of Services of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub services: u32,
    /// Of each Service, in each family.
    pub endpoints: u32,
    pub shape: Shape,
}

/// Endpoints of a Service where a column says nothing else.
const ENDPOINTS: u32 = 4;
/// All endpoints of a family have addresses of 10.128.0.0/10.
const MOST_ENDPOINTS: u32 = 1_000_000;

impl Column {
    pub const fn new(services: u32, shape: Shape) -> Self {
        Self { services, endpoints: ENDPOINTS, shape }
    }

    pub const fn plain(services: u32) -> Self {
        Self::new(services, Shape::Plain)
    }
}

/// As it is typed, and as the ids of its figures end.
impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix =
            Shape::ALL.iter().find(|(shape, _)| *shape == self.shape).map_or("", |(_, prefix)| prefix);
        write!(f, "{prefix}{}", self.services)?;
        if self.endpoints != ENDPOINTS {
            write!(f, "x{}", self.endpoints)?;
        }
        Ok(())
    }
}

impl FromStr for Column {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shaped = Shape::ALL.iter().find_map(|(shape, prefix)| Some((*shape, text.strip_prefix(prefix)?)));
        let (shape, numbers) = shaped.unwrap_or((Shape::Plain, text));
        let (services, endpoints) = match numbers.split_once('x') {
            Some((services, endpoints)) => (services, endpoints.parse().unwrap_or_default()),
            None => (numbers, ENDPOINTS),
        };
        match services.parse() {
            Ok(services @ 1..=100_000) if (1..=MOST_ENDPOINTS / services).contains(&endpoints) => {
                Ok(Self { services, endpoints, shape })
            }
            _ => Err(format!(
                "expected 1 to 100000, with `lb`, `dual` or `bad` before it, and with `x` and a number of endpoints behind \
                 it, up to {MOST_ENDPOINTS} in all"
            )),
        }
    }
}

impl Args {
    /// The columns to measure, in order.
    pub fn chosen(&self) -> Vec<Column> {
        let plain = |numbers: &[u32]| numbers.iter().copied().map(Column::plain).collect::<Vec<_>>();
        if self.quick {
            return plain(&[100, 1_000]);
        }
        if !self.columns.is_empty() {
            return self.columns.clone();
        }
        let mut all = plain(&[100, 1_000, 10_000, 30_000, 100_000]);
        all.extend([Shape::LoadBalancer, Shape::DualStack].map(|shape| Column::new(10_000, shape)));
        all
    }
}
