//! What a client says before anything else: a PROXY header is the same header however it is cut, asks for no more bytes
//! than it may, and what is believed of it is what stands there.

use std::net::{IpAddr, SocketAddr};

use super::engine;
use crate::proxy::proxy_protocol::{Addresses, LONGEST, Parsed, parse, version_1_of, version_2_of};

const WORDS: [&str; 36] = [
    "\r\n",
    "\n",
    " ",
    "\0",
    "\0\0",
    "PROXY ",
    "TCP4 ",
    "TCP6 ",
    "UNKNOWN",
    "192.0.2.1 ",
    "::1 ",
    "::ffff:192.0.2.1 ",
    "fd00::11%1 ",
    "0 ",
    "65535",
    "65536",
    "+80",
    "080",
    "\r\n\r\n\0\r\nQUIT\n",
    "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
    "\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24",
    "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    "\x21\x11",
    "\x21\x12",
    "\x21\x21",
    "\x21\x31",
    "\x22\x11",
    "\0\x0c",
    "\0\x24",
    "\0\x7d",
    "\x0f\x7f",
    "\x03\0\x04",
    "\x04\0\0",
    "\x04\0\x01x",
    "\x02\0\x09localhost",
    "GET / HTTP/1.1\r\n",
];

#[test]
fn proxy_header() {
    engine::run("proxy_header", &WORDS, target);
}

/// What it was, and whom it spoke of.
fn target(input: &[u8]) -> String {
    let whole = parse(input);
    let decided = (0..=input.len()).find(|n| parse(&input[..*n]) != Parsed::Incomplete);
    match decided {
        None => assert_eq!(whole, Parsed::Incomplete),
        Some(from) => {
            for n in from..=input.len() {
                assert_eq!(parse(&input[..n]), whole, "the first {n} bytes decide otherwise");
            }
        }
    }
    match whole {
        Parsed::Incomplete => {
            let mut most = input.to_vec();
            most.resize(LONGEST, b' ');
            assert_ne!(parse(&most), Parsed::Incomplete, "it asks for more than {LONGEST} bytes");
        }
        Parsed::Complete { len, said } => {
            assert_eq!(decided, Some(len), "it ends where it is known, and not before or behind");
            if let Some(said) = said {
                assert_eq!(said, stands_there(&input[..len]), "another reader sees others");
                written_again(said);
            }
        }
        Parsed::Absent | Parsed::Invalid(_) => {}
    }
    let family = |a: SocketAddr| (a.is_ipv4(), a.ip().to_canonical().is_ipv4());
    match whole {
        Parsed::Complete { len, said } => {
            format!("{len} bytes of {:?}", said.map(|s| (family(s.source), family(s.destination))))
        }
        other => format!("{other:?} from {decided:?}"),
    }
}

/// A plain reading of a header that names addresses.
fn stands_there(header: &[u8]) -> Addresses {
    if header[0] == b'P' {
        let line = std::str::from_utf8(header).expect("only text has addresses").strip_suffix("\r\n").expect("a line");
        let [_, family, source, destination, from, to] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line:?} is not of six words")
        };
        let of = |ip: &str, port: &str| {
            assert_eq!(port.parse::<u16>().expect("a port").to_string(), port);
            let ip: IpAddr = ip.parse().expect("an address");
            assert_eq!(if ip.is_ipv4() { "TCP4" } else { "TCP6" }, family);
            SocketAddr::new(ip, port.parse().expect("a port"))
        };
        return Addresses { source: of(source, from), destination: of(destination, to) };
    }
    let (wide, body) = (header[13] >> 4 == 2, &header[16..]);
    let size = if wide { 16 } else { 4 };
    let ip = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
        Ok(four) => IpAddr::from(four),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(bytes).expect("four or sixteen")),
    };
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    Addresses {
        source: SocketAddr::new(ip(&body[..size]), port(2 * size)),
        destination: SocketAddr::new(ip(&body[size..2 * size]), port(2 * size + 2)),
    }
}

/// What a backend would be told of them names the same ones; embedded IPv4 addresses may have become plain ones.
fn written_again(said: Addresses) {
    let plain = |s: Addresses| [s.source, s.destination].map(|a| (a.ip().to_canonical(), a.port()));
    for header in [version_1_of(Some(said)), version_2_of(Some(said))] {
        match parse(&header) {
            Parsed::Complete { len, said: Some(again) } => {
                assert_eq!((len, plain(again)), (header.len(), plain(said)), "{:?}", header.escape_ascii().to_string());
            }
            other => panic!("{other:?} of our own {:?}", header.escape_ascii().to_string()),
        }
    }
}
