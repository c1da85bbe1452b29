//! `--metrics` and `--metrics-file`: the numbers of this process, for Prometheus.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::say;
use crate::monitor::metrics::server::Endpoint;
use crate::monitor::metrics::{Exposition, textfile};
use crate::postgres::error::io_words;
use crate::run::Cause;

/// How long the last write of the file may take.
const END: Duration = Duration::from_secs(2);

/// Where metrics are told.
#[derive(Debug, Clone, Default, Args)]
pub struct MetricsArgs {
    /// Tell the numbers of a run to Prometheus at http://ADDR/metrics, such as 127.0.0.1:9187; port 0 is any free one
    #[arg(long = "metrics", value_name = "ADDR", value_parser = parse_address)]
    pub address: Option<SocketAddr>,
    /// Write them to this file every 15 s, and at the end, for the node exporter's textfile collector: DIR/howdah.prom
    #[arg(long = "metrics-file", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

impl MetricsArgs {
    /// These, as arguments of another howdah.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let address = self.address.map(|address| ["--metrics".into(), address.to_string().into()]);
        let file = self.file.clone().map(|file| ["--metrics-file".into(), file.into()]);
        [address, file].into_iter().flatten().flatten().collect()
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    match local {
        Some(port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        None => text.parse().map_err(|_| "an IP address and a port, such as 127.0.0.1:9187 or [::1]:9187".to_owned()),
    }
}

/// What tells the numbers of this process, while it is at work.
pub(super) struct Exporting {
    told: Arc<Exposition>,
    address: Option<SocketAddr>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Exporting {
    /// Takes the address, and writes the file once: what is wrong with them is known before anything is begun.
    ///
    /// # Errors
    /// The address is taken, or the file cannot be written.
    pub(super) async fn begin(args: &MetricsArgs) -> Result<Self, Cause> {
        let told = Arc::new(Exposition::default());
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let mut address = None;
        if let Some(wanted) = args.address {
            let endpoint = Endpoint::bind(wanted).await.map_err(|e| refused(wanted, &e))?;
            address = Some(endpoint.address());
            tasks.spawn(endpoint.serve(Arc::clone(&told), stop.clone()));
        }
        if let Some(path) = &args.file {
            textfile::write(path, &told).map_err(|e| {
                Cause::usage(format!("--metrics-file {}: it cannot be written: {}", path.display(), io_words(&e)))
                    .hint("name a file in a directory that is there, and that howdah may write to")
            })?;
            if path.extension().is_none_or(|suffix| suffix != "prom") {
                say::err(&format!(
                    "note: --metrics-file {}: the node exporter reads only files that end with .prom",
                    path.display()
                ));
            }
            tasks.spawn(textfile::keep(path.clone(), Arc::clone(&told), stop.clone()));
        }
        Ok(Self { told, address, stop, tasks })
    }

    /// Says where the metrics are, and who can read them.
    pub(super) fn announce(&self) {
        let Some(address) = self.address else { return };
        say::err(&format!("metrics: http://{address}/metrics"));
        tracing::info!("metrics at http://{address}/metrics");
        if !address.ip().is_loopback() {
            let warning =
                format!("metrics at {address} can be read by everyone who reaches that address: there is no password");
            say::err(&format!("warning: {warning}; 127.0.0.1 is for this host alone"));
            tracing::warn!("{warning}");
        }
    }

    /// What is told.
    pub(super) fn told(&self) -> &Arc<Exposition> {
        &self.told
    }

    /// Writes the file for the last time, and frees the address.
    pub(super) async fn end(mut self) {
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(END, ended).await.is_err() {
            tracing::warn!("the metrics file was not written in time for the last time");
        }
        self.tasks.shutdown().await;
    }
}

fn refused(wanted: SocketAddr, error: &std::io::Error) -> Cause {
    let cause = Cause::usage(format!("--metrics {wanted}: the address cannot be taken: {}", io_words(error)));
    match error.kind() {
        std::io::ErrorKind::AddrInUse => cause.hint("name another port, or port 0 for any that is free"),
        std::io::ErrorKind::PermissionDenied => cause.hint("name a port from 1024 on, such as 127.0.0.1:9187"),
        _ => cause.hint("name an address of this host, such as 127.0.0.1:9187"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_ip_and_a_port_or_localhost() {
        let table = [
            ("127.0.0.1:9187", Some("127.0.0.1:9187")),
            ("localhost:0", Some("127.0.0.1:0")),
            ("[::1]:9187", Some("[::1]:9187")),
            ("0.0.0.0:9187", Some("0.0.0.0:9187")),
            ("9187", None),
            ("db1:9187", None),
            ("localhost:70000", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_address(text).ok().map(|address| address.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_detached_driver_is_given_the_same_flags() {
        let args = MetricsArgs { address: "127.0.0.1:9187".parse().ok(), file: Some("/m/h.prom".into()) };
        assert_eq!(args.arguments(), ["--metrics", "127.0.0.1:9187", "--metrics-file", "/m/h.prom"]);
        assert!(MetricsArgs::default().arguments().is_empty());
    }
}
