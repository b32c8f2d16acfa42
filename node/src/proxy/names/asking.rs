//! Asks DNS.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};

use super::known::{Answer, Record, Server, servers_of};
use crate::config::model::Address;

/// How long a server that is named in node.toml may take to answer; it is asked twice more.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How many targets of one service are asked for at once: its record may name a thousand.
const AT_ONCE: usize = 16;

/// Why a name stands for nothing now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// DNS answered, and there is nothing.
    #[error("DNS has no {0} record of it; add one, or correct the backend's name")]
    Nothing(&'static str),
    /// DNS did not answer, or not to the point.
    #[error("DNS fails: {0}; see to its servers, those of [dns] in node.toml or else of /etc/resolv.conf")]
    Failed(#[from] NetError),
}

impl Failure {
    fn of(error: NetError, records: &'static str) -> Self {
        if error.is_no_records_found() { Self::Nothing(records) } else { Self::Failed(error) }
    }
}

/// Asks these servers, or those of the system.
#[derive(Debug)]
pub(super) struct Asker {
    servers: Vec<SocketAddr>,
    /// Made when it is first needed.
    resolver: Mutex<Option<Arc<TokioResolver>>>,
}

impl Asker {
    /// None means: those that `/etc/resolv.conf` names.
    pub(super) fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, resolver: Mutex::default() }
    }

    /// The servers that stand behind an address.
    ///
    /// # Errors
    /// There are none, or DNS fails.
    pub(super) async fn ask(&self, address: &Address) -> Result<Answer, Failure> {
        let answer = self.answer(address).await;
        if matches!(answer, Err(Failure::Failed(_))) {
            // The system's servers may be others by now.
            *self.resolver.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        answer
    }

    async fn answer(&self, address: &Address) -> Result<Answer, Failure> {
        let resolver = self.resolver()?;
        match address {
            Address::Ip(address) => Ok(Answer { servers: vec![Server::at(*address)], ttl: Duration::MAX }),
            Address::Name { host, port } => {
                let (ips, until) = addresses(&resolver, host).await?;
                let servers = ips.into_iter().map(|ip| Server::at((ip, *port).into())).collect();
                Ok(Answer { servers, ttl: left(until) })
            }
            Address::Service(name) => service(&resolver, name).await,
        }
    }

    fn resolver(&self) -> Result<Arc<TokioResolver>, NetError> {
        let mut made = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(resolver) = &*made {
            return Ok(Arc::clone(resolver));
        }
        let mut builder = if self.servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = self.servers.iter().map(|at| {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = at.port();
                    connection
                });
                NameServerConfig::new(at.ip(), true, connections.into())
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.options_mut().timeout = TIMEOUT;
            builder
        };
        let options = builder.options_mut();
        // Who asks again when the TTL is over has no use for a cache.
        options.cache_size = 0;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        Ok(Arc::clone(made.insert(Arc::new(builder.build()?))))
    }
}

/// A name's addresses, never none, and until when they hold.
async fn addresses(resolver: &TokioResolver, name: &str) -> Result<(Vec<IpAddr>, Instant), Failure> {
    let records = "A or AAAA";
    let found = resolver.lookup_ip(name).await.map_err(|error| Failure::of(error, records))?;
    let ips: Vec<IpAddr> = found.iter().collect();
    if ips.is_empty() { Err(Failure::Nothing(records)) } else { Ok((ips, found.valid_until())) }
}

async fn service(resolver: &TokioResolver, name: &str) -> Result<Answer, Failure> {
    let found = resolver.lookup(name, RecordType::SRV).await.map_err(|error| Failure::of(error, "SRV"))?;
    let records = found.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(srv) => Some(srv),
        _ => None,
    });
    let records = stream::iter(records.map(|srv| async {
        let (target, until) = match addresses(resolver, &srv.target.to_utf8()).await {
            Ok(found) => found,
            // A target that is gone does not take the others with it; `.` is how a service says that it is not there.
            Err(Failure::Nothing(_)) => (Vec::new(), found.valid_until()),
            Err(failed) => return Err(failed),
        };
        Ok((Record { priority: srv.priority, weight: srv.weight, port: srv.port, target }, until))
    }));
    let records: Vec<(Record, Instant)> = records.buffered(AT_ONCE).try_collect().await?;
    let until = records.iter().map(|(_, until)| *until).fold(found.valid_until(), Instant::min);
    let servers = servers_of(records.into_iter().map(|(record, _)| record).collect());
    let nothing = Failure::Nothing("SRV (with a target that has an address)");
    if servers.is_empty() { Err(nothing) } else { Ok(Answer { servers, ttl: left(until) }) }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}
