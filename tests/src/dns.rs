//! A DNS server on loopback that says what a test wants.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::SRV;
use hickory_proto::rr::{Name, RData, Record};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

/// A running server; dropped, it answers no more.
#[derive(Debug)]
pub struct Dns {
    /// Where it is asked, over UDP.
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct Zone {
    records: BTreeMap<Name, Vec<Record>>,
    mute: bool,
}

impl Dns {
    /// One that knows no name yet.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start(at: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(at).await?;
        let (address, zone) = (socket.local_addr()?, Arc::<Mutex<Zone>>::default());
        let task = tokio::spawn(serve(socket, Arc::clone(&zone))).abort_handle();
        Ok(Self { address, zone, task })
    }

    /// From now on the name has these addresses, for `ttl` seconds at a time, and nothing else.
    pub fn addresses(&self, name: &str, ttl: u32, addresses: &[IpAddr]) {
        self.say(name, ttl, addresses.iter().map(|ip| RData::from(*ip)));
    }

    /// From now on the name has these SRV records, for `ttl` seconds at a time: priority, weight, port and target.
    pub fn services(&self, name: &str, ttl: u32, services: &[(u16, u16, u16, &str)]) {
        let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
            RData::SRV(SRV::new(*priority, *weight, *port, named(target)))
        };
        self.say(name, ttl, services.iter().map(record));
    }

    /// From now on there is no such name.
    pub fn forget(&self, name: &str) {
        self.zone().records.remove(&named(name));
    }

    /// Whether questions get no answer at all.
    pub fn mute(&self, mute: bool) {
        self.zone().mute = mute;
    }

    fn say(&self, name: &str, ttl: u32, all: impl Iterator<Item = RData>) {
        let name = named(name);
        let records = all.map(|data| Record::from_rdata(name.clone(), ttl, data)).collect();
        self.zone().records.insert(name, records);
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn named(text: &str) -> Name {
    let mut name = Name::from_str(text).expect("a test writes names");
    name.set_fqdn(true);
    name
}

async fn serve(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 4096];
    while let Ok((n, peer)) = socket.recv_from(&mut buffer).await {
        let Ok(question) = Message::from_vec(&buffer[..n]) else { continue };
        let answer = answer(&question, &zone.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(bytes) = answer.and_then(|answer| answer.to_vec().ok()) {
            let _ = socket.send_to(&bytes, peer).await;
        }
    }
}

fn answer(question: &Message, zone: &Zone) -> Option<Message> {
    let query = question.queries.first().filter(|_| !zone.mute)?;
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.add_query(query.clone());
    match zone.records.get(query.name()) {
        Some(all) => {
            answer.add_answers(all.iter().filter(|r| r.record_type() == query.query_type()).cloned());
        }
        None => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    Some(answer)
}
