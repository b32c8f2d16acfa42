//! What neighbours hear and say, on a real network: two namespaces and a cable. Needs root.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::ethernet::Mouth;
use super::hands::{Hands as _, Provided};
use super::keeper::tests::{World, holds};
use super::keeper::{Keeper, Settings};
use super::lease::{Action, News};
use super::namespace::{Namespace, VIP, cable, has_vip, here, ip, mac, skipped, until, vip};
use super::netlink::Interface;
use crate::config::Provider;
use crate::control::Role;

const LEASE: Duration = Duration::from_secs(1);
const MARGIN: Duration = Duration::from_millis(100);
const VIP6: &str = "fd00:9::100";
/// An Ethernet address that nobody has.
const STALE: &str = "02:00:00:00:00:01";

fn settings(interface: &str) -> Settings {
    Settings { provider: Provider::Linux { interface: interface.into() }, lease: LEASE, margin: MARGIN }
}

/// Leads for as long as the world is there.
fn lead_on(world: World) {
    tokio::spawn(async move {
        loop {
            world.lead(7);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

/// Holds `address` in the node's namespace, serves a byte there, and lets the neighbour, who knows the address by a stale
/// entry, fetch it.
fn served(
    node: &Namespace,
    neighbour: &Namespace,
    interface: &'static str,
    there: &'static str,
    address: &'static str,
) {
    let entry = format!("neighbour replace {address} lladdr {STALE} dev {there} nud reachable");
    neighbour.ip(&entry);
    let jobs = neighbour.clone();
    node.run(move || async move {
        let world = World::new(Role::Proxy, &[address]);
        let keeper = world.start_by(settings(interface)).unwrap();
        lead_on(world);
        holds(&keeper, &[address]).await;
        let ours = mac(interface);
        let to = SocketAddr::new(address.parse().unwrap(), 4711);
        let listener = TcpListener::bind(to).await.expect("an address that is held can be bound at once");
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                client.try_write(b"!").unwrap();
            }
        });
        let fetched = tokio::task::spawn_blocking(move || {
            jobs.run(move || async move {
                until("the neighbour learns the new Ethernet address", || ip("neighbour show").contains(&ours)).await;
                let mut byte = [0];
                TcpStream::connect(to).await.unwrap().read_exact(&mut byte).await.unwrap();
                byte
            })
        });
        assert_eq!(&fetched.await.unwrap(), b"!");
        keeper.stop().await;
        assert!(!ip("-oneline address show").contains(address), "left behind");
    });
}

#[test]
fn an_ipv6_address_is_used_at_once_and_neighbours_follow_it() {
    let Some((node, neighbour)) = cable() else { return };
    node.ip("address add fd00:9::1/64 dev here nodad");
    neighbour.ip("address add fd00:9::2/64 dev there nodad");
    served(&node, &neighbour, "here", "there", VIP6);
}

#[test]
fn an_address_on_a_bridge_is_one_like_any_other() {
    let Some((node, neighbour)) = cable() else { return };
    for line in [
        "link add bridge type bridge",
        "link set here master bridge",
        "link set bridge up",
        "address add 10.9.7.1/24 dev bridge",
    ] {
        node.ip(line);
    }
    neighbour.ip("address add 10.9.7.2/24 dev there");
    served(&node, &neighbour, "bridge", "there", "10.9.7.100");
}

#[test]
fn an_address_on_a_vlan_is_one_like_any_other() {
    let Some((node, neighbour)) = cable() else { return };
    let vlan = "link add link here name here.7 type vlan id 7";
    let made =
        node.run(|| async { Command::new("ip").args(vlan.split_whitespace()).output().unwrap().status.success() });
    if !made {
        return skipped("this kernel has no VLANs: load its module 8021q");
    }
    node.ip("address add 10.9.7.1/24 dev here.7");
    node.ip("link set here.7 up");
    neighbour.ip("link add link there name there.7 type vlan id 7");
    neighbour.ip("address add 10.9.7.2/24 dev there.7");
    neighbour.ip("link set there.7 up");
    served(&node, &neighbour, "here.7", "there.7", "10.9.7.100");
}

#[test]
fn somebody_who_answers_delays_a_claim_by_one_lease_and_is_named() {
    let Some((node, neighbour)) = cable() else { return };
    neighbour.ip(&format!("address add {VIP}/32 dev there"));
    node.run(|| async {
        let world = World::new(Role::Proxy, &[VIP]);
        let keeper = world.start_by(settings("here")).unwrap();
        let began = Instant::now();
        lead_on(world);
        holds(&keeper, &[VIP]).await;
        assert!(began.elapsed() >= LEASE, "claimed after {:?} though somebody had it", began.elapsed());
        let notes = keeper.notes();
        assert_eq!(notes.rival.map(|rival| rival.address), Some(vip()));
        keeper.stop().await;
    });
}

#[test]
fn silence_is_waited_for_shortly() {
    let Some((node, _neighbour)) = cable() else { return };
    node.run(|| async {
        let world = World::new(Role::Proxy, &[VIP]);
        let keeper = world.start_by(settings("here")).unwrap();
        let began = Instant::now();
        lead_on(world);
        holds(&keeper, &[VIP]).await;
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(30) && took < LEASE, "claimed after {took:?}");
        assert_eq!(keeper.notes().conflicts, 0);
        keeper.stop().await;
    });
}

#[test]
fn a_rival_of_the_holder_is_named_and_announced_against() {
    for (address, more) in [(VIP, None), (VIP6, Some("fd00:9::1/64"))] {
        let Some((node, neighbour)) = cable() else { return };
        if let Some(more) = more {
            node.ip(&format!("address add {more} dev here nodad"));
        }
        let jobs = neighbour.clone();
        node.run(move || async move {
            let world = World::new(Role::Proxy, &[address]);
            let keeper: Keeper = world.start_by(settings("here")).unwrap();
            lead_on(world);
            holds(&keeper, &[address]).await;
            let address: IpAddr = address.parse().unwrap();
            let heard = || keeper.notes().rival.map(|rival| (rival.address, rival.mac));
            let theirs = tokio::task::spawn_blocking(move || {
                jobs.run(move || async move {
                    // Not in the first second: there is an announcement of the claim itself then.
                    tokio::time::sleep(Duration::from_millis(1100)).await;
                    let interface = Interface::open("there").await.unwrap();
                    Mouth::open().unwrap().announce(interface.ifindex(), interface.mac(), address).unwrap();
                    mac("there")
                })
            });
            let theirs = theirs.await.unwrap();
            until("it hears of the rival", || heard() == Some((address, theirs.clone()))).await;
            assert_eq!(keeper.notes().conflicts, 1);
            keeper.stop().await;
        });
    }
}

#[test]
fn a_cable_that_is_back_and_an_address_that_is_gone_are_news() {
    let Some((node, neighbour)) = cable() else { return };
    let jobs = neighbour.clone();
    node.run(move || async move {
        let mut hands = Provided::open(&here()).await.unwrap();
        hands.fence(vip(), Instant::now() + Duration::from_secs(60));
        hands.act(&Action::Add(vip())).await.unwrap();
        let flap = tokio::task::spawn_blocking(move || {
            jobs.ip("link set there down");
            jobs.ip("link set there up");
        });
        let mut heard = async || tokio::time::timeout(Duration::from_secs(10), hands.news()).await.unwrap();
        assert_eq!(heard().await, News::Carries);
        flap.await.unwrap();
        ip(&format!("address del {VIP}/32 dev here"));
        loop {
            match heard().await {
                News::Carries => {}
                news => break assert_eq!(news, News::Gone(vip())),
            }
        }
    });
}

#[test]
fn what_somebody_takes_off_is_put_back() {
    let Some((node, _neighbour)) = cable() else { return };
    node.run(|| async {
        let world = World::new(Role::Proxy, &[VIP]);
        let keeper = world.start_by(settings("here")).unwrap();
        lead_on(world);
        holds(&keeper, &[VIP]).await;
        ip(&format!("address del {VIP}/32 dev here"));
        until("it is put back", has_vip).await;
        keeper.stop().await;
        assert!(!has_vip(), "left behind");
    });
}
