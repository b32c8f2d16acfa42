//! The network: gRPC requests and replies as packets that take their time, each direction of each pair of hosts by itself.
//!
//! The product's own clients and services are at both ends (tonic's, generated); only HTTP/2 and TCP are left out. What
//! TCP would do with a cut is here: packets are lost with their connection, or held and delivered when the cut is mended.
//! A call that hears nothing fails after [`KEEP_ALIVE`] ms, as it does by HTTP/2 pings.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use tandem_node::control::{Dial, Line};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use tonic::body::Body;

use crate::chance::Chance;
use crate::mutants::Mutant;
use crate::trace::Trace;

/// After so many ms a call without an answer has failed.
const KEEP_ALIVE: u64 = 2000;

/// Number of a host: nodes first, then clients.
pub(crate) type Host = usize;

/// The network; clones share it.
#[derive(Clone)]
pub(crate) struct Network(Arc<Mutex<Inner>>);

struct Inner {
    now: u64,
    chance: Chance,
    trace: Trace,
    mutant: Option<Mutant>,
    hosts: Vec<Machine>,
    links: Vec<Vec<Link>>,
    /// By time of arrival, then in the order they were sent.
    flying: BTreeMap<(u64, u64), Packet>,
    calls: BTreeMap<u64, (Host, oneshot::Sender<Reply>)>,
    sent: u64,
}

#[derive(Default)]
struct Machine {
    life: u64,
    /// Where requests go; none while it is off.
    inbox: Option<mpsc::UnboundedSender<Ask>>,
    /// Off, but its kernel is there to refuse connections.
    refuses: bool,
}

/// One direction between two hosts.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// Nothing passes.
    pub(crate) cut: bool,
    /// The least a packet takes, in ms.
    pub(crate) least: u64,
    /// The most.
    pub(crate) most: u64,
    /// Packets that never arrive, in a hundred.
    pub(crate) lost: u64,
    /// Requests of clients that arrive twice, in a hundred.
    pub(crate) twice: u64,
}

impl Default for Link {
    fn default() -> Self {
        Self { cut: false, least: 1, most: 3, lost: 0, twice: 0 }
    }
}

struct Packet {
    from: Host,
    to: Host,
    load: Load,
}

enum Load {
    Ask { call: u64, message: Message },
    Reply { call: u64, reply: Reply },
}

type Reply = Result<Message, Status>;

/// A request or a reply without its connection.
#[derive(Clone)]
pub(crate) struct Message {
    /// Of a request.
    pub(crate) uri: http::Uri,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<http::HeaderMap>,
}

/// A request that has arrived.
pub(crate) struct Ask {
    call: u64,
    asker: Host,
    pub(crate) message: Message,
}

impl Network {
    pub(crate) fn new(hosts: usize, chance: Chance, trace: Trace, mutant: Option<Mutant>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            now: 0,
            chance,
            trace,
            mutant,
            hosts: std::iter::repeat_with(Machine::default).take(hosts).collect(),
            links: vec![vec![Link::default(); hosts]; hosts],
            flying: BTreeMap::new(),
            calls: BTreeMap::new(),
            sent: 0,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers what has arrived by now.
    pub(crate) fn tick(&self, now: u64) {
        let mut inner = self.inner();
        inner.now = now;
        while let Some(first) = inner.flying.first_entry().filter(|first| first.key().0 <= now) {
            let packet = first.remove();
            inner.arrive(packet);
        }
    }

    /// A machine is switched on: what it is asked comes here.
    pub(crate) fn on(&self, host: Host) -> (Port, mpsc::UnboundedReceiver<Ask>) {
        let (inbox, asked) = mpsc::unbounded_channel();
        let mut inner = self.inner();
        let machine = &mut inner.hosts[host];
        machine.life += 1;
        machine.inbox = Some(inbox);
        (Port { network: self.clone(), host, life: machine.life }, asked)
    }

    /// A machine loses its power, or (`refuses`) only its process ends.
    pub(crate) fn off(&self, host: Host, refuses: bool) {
        let mut inner = self.inner();
        let machine = &mut inner.hosts[host];
        machine.life += 1;
        (machine.inbox, machine.refuses) = (None, refuses);
        inner.calls.retain(|_, (asker, _)| *asker != host);
    }

    /// Changes one direction.
    pub(crate) fn link(&self, from: Host, to: Host, change: impl FnOnce(&mut Link)) {
        change(&mut self.inner().links[from][to]);
    }

    /// All links as on a calm day.
    pub(crate) fn heal(&self) {
        for link in self.inner().links.iter_mut().flatten() {
            *link = Link::default();
        }
    }
}

impl Inner {
    fn send(&mut self, life: u64, mut packet: Packet) {
        if self.hosts[packet.from].life != life {
            return;
        }
        let Packet { from, to, .. } = packet;
        let link = self.links[from][to].clone();
        match (self.mutant, &mut packet.load) {
            (Some(mutant), Load::Ask { message, .. }) => mutant.on_the_way(message),
            (Some(mutant), Load::Reply { reply: Ok(message), .. }) => mutant.on_the_way_back(message),
            _ => {}
        }
        if let Load::Ask { message, .. } = &packet.load
            && self.chance.percent(link.twice)
        {
            let again = Packet { from, to, load: Load::Ask { call: 0, message: message.clone() } };
            let late = self.chance.between(link.least, link.most) + self.chance.between(0, 3000);
            self.fly(late, again);
        }
        if link.cut && !self.chance.percent(30) || self.chance.percent(link.lost) {
            return;
        }
        let takes = self.chance.between(link.least, link.most);
        self.fly(takes, packet);
    }

    fn fly(&mut self, takes: u64, packet: Packet) {
        self.sent += 1;
        self.flying.insert((self.now + takes.max(1), self.sent), packet);
    }

    fn arrive(&mut self, packet: Packet) {
        let Packet { from, to, load } = packet;
        if self.links[from][to].cut {
            // Held: the connection sends it again until the cut is mended, or the call is given up.
            let again = self.chance.between(5, 50);
            return self.fly(again, Packet { from, to, load });
        }
        match load {
            Load::Reply { call, reply } => {
                self.trace.count(&[3, from as u64, to as u64, call]);
                if let Some((_, waits)) = self.calls.remove(&call) {
                    // Whoever asked may have given up.
                    let _ = waits.send(reply);
                }
            }
            Load::Ask { call, message } => {
                self.trace.count(&[4, from as u64, to as u64, message.body.len() as u64]);
                let machine = &self.hosts[to];
                if let Some(inbox) = &machine.inbox {
                    let _ = inbox.send(Ask { call, asker: from, message });
                } else if machine.refuses {
                    let reply = Err(Status::unavailable("connection refused"));
                    self.fly(1, Packet { from: to, to: from, load: Load::Reply { call, reply } });
                }
            }
        }
    }
}

/// A host's way into the network during one life.
#[derive(Clone)]
pub(crate) struct Port {
    network: Network,
    host: Host,
    life: u64,
}

impl Port {
    /// Lines to the node with this number: `address` is its name.
    pub(crate) fn dial(&self, names: &[String]) -> Dial {
        let (port, names) = (self.clone(), names.to_vec());
        Dial::by(move |address| {
            let to = names.iter().position(|name| name == address).ok_or("there is no such host")?;
            let port = port.clone();
            Ok(Line::new(tower::service_fn(move |request| {
                let port = port.clone();
                async move { port.call(to, request).await }
            })))
        })
    }

    /// One request, whole, and its reply.
    async fn call(self, to: Host, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let message = Message { uri: head.uri, headers: head.headers, body, trailers: None };
        let reply = self.ask(to, message).await?;
        let body = Full::new(reply.body).with_trailers(std::future::ready(reply.trailers.map(Ok)));
        let mut response = http::Response::new(Body::new(body));
        *response.headers_mut() = reply.headers;
        Ok(response)
    }

    /// A request as a packet.
    pub(crate) async fn ask(&self, to: Host, message: Message) -> Reply {
        let (waits, answer) = oneshot::channel();
        {
            let mut inner = self.network.inner();
            inner.sent += 1;
            let call = inner.sent;
            inner.calls.insert(call, (self.host, waits));
            inner.send(self.life, Packet { from: self.host, to, load: Load::Ask { call, message } });
        }
        match tokio::time::timeout(Duration::from_millis(KEEP_ALIVE), answer).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Err(Status::unavailable("this host is going down")),
            Err(_) => Err(Status::unavailable("no answer to a keep-alive ping")),
        }
    }

    /// Sends the reply to what was asked here.
    pub(crate) fn reply(&self, ask: &Ask, reply: Reply) {
        let load = Load::Reply { call: ask.call, reply };
        self.network.inner().send(self.life, Packet { from: self.host, to: ask.asker, load });
    }
}

impl Message {
    /// A request without the trimmings of gRPC: for what is asked by our own client.
    pub(crate) fn plain(uri: &'static str, body: Vec<u8>) -> Self {
        let uri = http::Uri::from_static(uri);
        Self { uri, headers: http::HeaderMap::new(), body: body.into(), trailers: None }
    }

    /// As a service wants it.
    pub(crate) fn request(&self) -> http::Request<Body> {
        let mut request = http::Request::new(Body::new(Full::new(self.body.clone())));
        *request.uri_mut() = self.uri.clone();
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// As a service gave it.
    pub(crate) async fn response(uri: http::Uri, response: http::Response<Body>) -> Reply {
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        Ok(Self { uri, headers: head.headers, body: body.to_bytes(), trailers })
    }
}
