//! Resolves names of API servers without the C library, whose `libnss_*` are missing in a static binary.

use std::io;
use std::net::SocketAddr;
use std::vec::IntoIter;

use futures::future::{BoxFuture, FutureExt as _};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hyper_util::client::legacy::connect::dns::Name;

/// The addresses of a name in both families, from `/etc/hosts` and then the servers in `/etc/resolv.conf`. Both files
/// are read every time: connections are rare, and the files change.
pub fn resolve(name: Name) -> BoxFuture<'static, io::Result<IntoIter<SocketAddr>>> {
    addresses(name).boxed()
}

async fn addresses(name: Name) -> io::Result<IntoIter<SocketAddr>> {
    // Without a name server `/etc/hosts` may still have the name.
    let (builder, missing) = match TokioResolver::builder_tokio() {
        Ok(builder) => (builder, String::new()),
        Err(error) => {
            let no_servers = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            let builder = TokioResolver::builder_with_config(no_servers, TokioRuntimeProvider::default());
            (builder, format!(" (/etc/resolv.conf: {error})"))
        }
    };
    let fail = |error| io::Error::other(format!("resolving {name}: {error}{missing}"));
    let found = builder.build().map_err(fail)?.lookup_ip(name.as_str()).await.map_err(fail)?;
    // The connector sets the port.
    Ok(found.iter().map(|addr| SocketAddr::new(addr, 0)).collect::<Vec<_>>().into_iter())
}
