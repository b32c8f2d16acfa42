//! What follows from a node's report of itself.

use std::collections::BTreeMap;

use crate::admin::v1::{BackendReport, Backends, NodeReport, ReportRequest, UpstreamReport};

impl NodeReport {
    /// Whether it serves: its consensus runs, and it does not drain. A witness has no clients, whatever this says.
    pub fn is_fit(&self) -> bool {
        self.fatal.is_empty() && !self.draining
    }

    /// Counts the backends of each upstream, unless the node did: then they may not be all there any more.
    pub fn count(&mut self) {
        if self.upstreams.is_empty() {
            self.upstreams = counted(&self.backends);
        }
    }

    /// Leaves only the backends that were asked for. Count them before.
    pub fn keep(&mut self, ask: &ReportRequest) {
        let all = ask.backends() == Backends::All;
        let of = |b: &BackendReport| ask.upstream.is_empty() || b.upstream == ask.upstream;
        self.backends.retain(|b| (all || !b.takes_clients()) && of(b));
    }
}

impl ReportRequest {
    /// For those who need no list of backends.
    pub fn brief() -> Self {
        Self { backends: Backends::Troubled.into(), ..Self::default() }
    }
}

impl BackendReport {
    /// Its checks do not fail, and clients can be taken to it over TLS where that is asked for.
    pub fn serves(&self) -> bool {
        self.up && self.tls_error.is_empty()
    }

    /// It gets new clients now.
    pub fn takes_clients(&self) -> bool {
        self.serves() && self.ejected_for_ms == 0
    }
}

/// By name.
fn counted(backends: &[BackendReport]) -> Vec<UpstreamReport> {
    let mut all: BTreeMap<&str, UpstreamReport> = BTreeMap::new();
    for b in backends {
        let name = b.upstream.as_str();
        let one = all.entry(name).or_insert_with(|| UpstreamReport { name: name.to_owned(), ..Default::default() });
        one.backends += 1;
        one.serve += u32::from(b.serves());
        one.take_clients += u32::from(b.takes_clients());
        one.sessions += b.sessions;
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> NodeReport {
        let backend = |upstream: &str, address: &str| BackendReport {
            upstream: upstream.into(),
            address: address.into(),
            up: true,
            sessions: 2,
            ..Default::default()
        };
        let mut report = NodeReport {
            backends: vec![
                backend("b", "1"),
                backend("a", "2"),
                backend("a", "3"),
                backend("a", "4"),
                backend("a", "5"),
            ],
            ..Default::default()
        };
        report.backends[1].up = false;
        report.backends[2].ejected_for_ms = 1;
        report.backends[3].tls_error = "not believed".into();
        report
    }

    #[test]
    fn what_is_not_told_of_is_counted() {
        let mut report = report();
        report.count();
        report.keep(&ReportRequest::brief());
        let left: Vec<&str> = report.backends.iter().map(|b| b.address.as_str()).collect();
        assert_eq!(left, ["2", "3", "4"]);
        let a = UpstreamReport { name: "a".into(), backends: 4, serve: 2, take_clients: 1, sessions: 8 };
        let b = UpstreamReport { name: "b".into(), backends: 1, serve: 1, take_clients: 1, sessions: 2 };
        assert_eq!(report.upstreams, [a.clone(), b.clone()]);
        report.count();
        assert_eq!(report.upstreams, [a, b], "a second count knows less");
    }

    #[test]
    fn one_upstream_alone() {
        let mut report = report();
        report.keep(&ReportRequest { upstream: "a".into(), ..Default::default() });
        assert_eq!(report.backends.len(), 4);
        report.keep(&ReportRequest::default());
        assert_eq!(report.backends.len(), 4, "everything");
    }
}
