//! The PROXY protocol: who the client is, told in front of everything else (haproxy.org, proxy-protocol.txt, versions 1
//! and 2). Pure.
//!
//! ```text
//!  v1  "PROXY" SP ("TCP4" | "TCP6") SP source SP destination SP port SP port CR LF     107 bytes at most
//!      "PROXY UNKNOWN" ... CR LF
//!  v2  signature (12) · version and command (1) · family (1) · length (2) · addresses · TLVs
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The first bytes of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The first bytes of version 1.
const PREFIX: &[u8] = b"PROXY ";
/// The longest line of version 1, with its end.
const LINE: usize = 107;
/// The longest header that is read: the addresses and some hundred bytes of TLVs are what there is in practice.
pub(super) const LONGEST: usize = 4096;
/// The TLV that carries a checksum of the header.
const PP2_TYPE_CRC32C: u8 = 0x03;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A whole header.
    Complete {
        /// How many bytes it has.
        len: usize,
        /// Whom it speaks of; `None`: nobody but the sender itself (LOCAL, UNKNOWN, or addresses that are none of IP).
        said: Option<Addresses>,
    },
    /// The begin of a header.
    Incomplete,
    /// No header at all: the first bytes are something else's.
    Absent,
    /// A header that cannot be believed.
    Invalid(&'static str),
}

/// Whom a header speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    /// The client.
    pub(super) source: SocketAddr,
    /// What it connected to.
    pub(super) destination: SocketAddr,
}

/// Reads the first bytes of a connection. Never panics; what is `Incomplete` becomes something else with more bytes, of
/// which it needs [`LONGEST`] at most.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    if begins(bytes, &SIGNATURE) {
        version_2(bytes)
    } else if begins(bytes, PREFIX) {
        version_1(bytes)
    } else {
        Parsed::Absent
    }
}

/// Whether `bytes` are the begin of `whole`, or go on behind it.
fn begins(bytes: &[u8], whole: &[u8]) -> bool {
    bytes.iter().zip(whole).all(|(a, b)| a == b)
}

fn version_1(bytes: &[u8]) -> Parsed {
    let within = &bytes[..bytes.len().min(LINE)];
    let Some(end) = within.windows(2).position(|w| w == b"\r\n") else {
        return if bytes.len() < LINE { Parsed::Incomplete } else { Parsed::Invalid("its line does not end") };
    };
    let len = end + 2;
    let Ok(line) = std::str::from_utf8(&bytes[..end]) else { return Parsed::Invalid("its line is no ASCII") };
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        // What follows is to be ignored.
        return Parsed::Complete { len, said: None };
    }
    let words: [Option<&str>; 5] = std::array::from_fn(|_| words.next());
    let [Some(source), Some(destination), Some(from), Some(to), None] = words else {
        return Parsed::Invalid("its line is not of six words");
    };
    let (source, destination) = match family {
        Some("TCP4") => (ip::<Ipv4Addr>(source), ip::<Ipv4Addr>(destination)),
        Some("TCP6") => (ip::<Ipv6Addr>(source), ip::<Ipv6Addr>(destination)),
        _ => return Parsed::Invalid("it speaks of a family that is none of TCP4, TCP6 and UNKNOWN"),
    };
    match (source, destination, port(from), port(to)) {
        (Some(source), Some(destination), Some(from), Some(to)) => {
            let said = Addresses { source: (source, from).into(), destination: (destination, to).into() };
            Parsed::Complete { len, said: Some(said) }
        }
        (None, ..) | (_, None, ..) => Parsed::Invalid("an address of it is none of its family"),
        _ => Parsed::Invalid("a port of it is none"),
    }
}

fn ip<T: std::str::FromStr + Into<IpAddr>>(text: &str) -> Option<IpAddr> {
    text.parse::<T>().ok().map(Into::into)
}

/// Decimal, without sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn version_2(bytes: &[u8]) -> Parsed {
    // What is wrong is told as soon as it is there.
    let (command, family) = (bytes.get(12).copied(), bytes.get(13).copied());
    let local = match command {
        None => return Parsed::Incomplete,
        Some(0x20) => true,
        Some(0x21) => false,
        Some(c) if c >> 4 != 2 => return Parsed::Invalid("its version is not 2"),
        Some(_) => return Parsed::Invalid("its command is neither LOCAL nor PROXY"),
    };
    let Some(&[high, low]) = bytes.get(14..16) else { return Parsed::Incomplete };
    let len = 16 + usize::from(u16::from_be_bytes([high, low]));
    if len > LONGEST {
        return Parsed::Invalid("it is longer than 4096 bytes");
    }
    let Some(body) = bytes.get(16..len) else { return Parsed::Incomplete };
    let (said, tlvs) = match family {
        _ if local => {
            // Nothing is said of addresses that may be there (section 2.2); only what follows them could be checked.
            let skip = match family.map(|f| f >> 4) {
                Some(1) => 12,
                Some(2) => 36,
                Some(3) => 216,
                _ => 0,
            };
            (None, body.get(skip..).unwrap_or_default())
        }
        Some(0x11 | 0x12) => match body.split_first_chunk::<12>() {
            Some((a, rest)) => (Some(said_v4(a)), rest),
            None => return Parsed::Invalid("it is too short for its addresses"),
        },
        Some(0x21 | 0x22) => match body.split_first_chunk::<36>() {
            Some((a, rest)) => (Some(said_v6(a)), rest),
            None => return Parsed::Invalid("it is too short for its addresses"),
        },
        Some(0x31 | 0x32) => match body.get(216..) {
            Some(rest) => (None, rest),
            None => return Parsed::Invalid("it is too short for its addresses"),
        },
        Some(0x00) => (None, body),
        _ => return Parsed::Invalid("its address family is not known"),
    };
    match checked(&bytes[..len], tlvs) {
        Ok(()) => Parsed::Complete { len, said },
        Err(why) => Parsed::Invalid(why),
    }
}

fn said_v4(a: &[u8; 12]) -> Addresses {
    let [s0, s1, s2, s3, d0, d1, d2, d3, sp0, sp1, dp0, dp1] = *a;
    Addresses {
        source: ([s0, s1, s2, s3], u16::from_be_bytes([sp0, sp1])).into(),
        destination: ([d0, d1, d2, d3], u16::from_be_bytes([dp0, dp1])).into(),
    }
}

fn said_v6(a: &[u8; 36]) -> Addresses {
    let ip = |at: usize| {
        let octets: [u8; 16] = std::array::from_fn(|i| a[at + i]);
        Ipv6Addr::from(octets)
    };
    Addresses {
        source: (ip(0), u16::from_be_bytes([a[32], a[33]])).into(),
        destination: (ip(16), u16::from_be_bytes([a[34], a[35]])).into(),
    }
}

/// Walks the TLVs: they must fill the header exactly, and a checksum among them must hold (section 2.2.3: the field itself
/// counts as zero).
fn checked(header: &[u8], mut tlvs: &[u8]) -> Result<(), &'static str> {
    while let Some((&[kind, high, low], rest)) = tlvs.split_first_chunk::<3>() {
        let len = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, rest)) = rest.split_at_checked(len) else { return Err("a TLV of it is cut off") };
        if kind == PP2_TYPE_CRC32C {
            let Ok(told) = <[u8; 4]>::try_from(value) else { return Err("its checksum is not of four bytes") };
            let (before, after) = (&header[..header.len() - rest.len() - 4], rest);
            let sum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]), after);
            if sum != u32::from_be_bytes(told) {
                return Err("its checksum does not hold");
            }
        }
        tlvs = rest;
    }
    if tlvs.is_empty() { Ok(()) } else { Err("a TLV of it is cut off") }
}

/// A header of version 1; `None`: of the sender itself (UNKNOWN).
pub(super) fn version_1_of(said: Option<Addresses>) -> Vec<u8> {
    let Some(said) = said else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let (source, destination) = alike(said);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.port(), destination.port());
    format!("PROXY {family} {} {} {from} {to}\r\n", text(source.ip()), text(destination.ip())).into_bytes()
}

/// An address as version 1 writes it: an embedded IPv4 address in hexadecimal, since not every reader knows the dotted form.
fn text(ip: IpAddr) -> String {
    match ip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            let [.., high, low] = v6.segments();
            format!("::ffff:{high:x}:{low:x}")
        }
        other => other.to_string(),
    }
}

/// A header of version 2 without TLVs; `None`: of the sender itself (LOCAL).
pub(super) fn version_2_of(said: Option<Addresses>) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let Some(said) = said else {
        header.extend([0x20, 0, 0, 0]);
        return header;
    };
    let (source, destination) = alike(said);
    let mut addresses = Vec::with_capacity(36);
    for ip in [source.ip(), destination.ip()] {
        match ip {
            IpAddr::V4(v4) => addresses.extend(v4.octets()),
            IpAddr::V6(v6) => addresses.extend(v6.octets()),
        }
    }
    addresses.extend(source.port().to_be_bytes());
    addresses.extend(destination.port().to_be_bytes());
    let family = if source.is_ipv4() { 0x11 } else { 0x21 };
    let len = u8::try_from(addresses.len()).expect("12 or 36");
    header.extend([0x21, family, 0, len]);
    header.extend(addresses);
    header
}

/// Both of one family, as the headers need them: IPv4 if both can be, else IPv6.
fn alike(said: Addresses) -> (SocketAddr, SocketAddr) {
    let canonical = |a: SocketAddr| (a.ip().to_canonical(), a.port());
    let ((source, from), (destination, to)) = (canonical(said.source), canonical(said.destination));
    let wide = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
        v6 @ IpAddr::V6(_) => v6,
    };
    if source.is_ipv4() == destination.is_ipv4() {
        ((source, from).into(), (destination, to).into())
    } else {
        ((wide(source), from).into(), (wide(destination), to).into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn said(source: &str, destination: &str) -> Option<Addresses> {
        Some(Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
    }

    /// A header of version 2 with any content.
    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family, len[0], len[1]], body].concat()
    }

    const FOUR: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0x01, 0xbb];

    #[test]
    fn lines_of_version_1() {
        let whole = |line: &str, expected| {
            assert_eq!(parse(line.as_bytes()), Parsed::Complete { len: line.len(), said: expected }, "{line}");
        };
        whole("PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n", said("192.0.2.1:12345", "198.51.100.2:443"));
        whole("PROXY TCP6 2001:db8::1 fd00::2 65535 1\r\n", said("[2001:db8::1]:65535", "[fd00::2]:1"));
        whole("PROXY UNKNOWN\r\n", None);
        whole("PROXY UNKNOWN ffff::1 anything at all 1\r\n", None);
        let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LINE - 16));
        assert_eq!(longest.len(), LINE);
        whole(&longest, None);
        let behind = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\n";
        assert_eq!(parse(behind), Parsed::Complete { len: 32, said: said("1.2.3.4:1", "5.6.7.8:2") });
    }

    #[test]
    fn what_is_wrong_in_version_1() {
        for (line, why) in [
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", "six words"),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", "six words"),
            ("PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n", "six words"),
            ("PROXY TCP4 fd00::1 5.6.7.8 1 2\r\n", "address"),
            ("PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", "address"),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", "port"),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", "port"),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", "port"),
            ("PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", "family"),
            ("PROXY \r\n", "six words"),
        ] {
            let Parsed::Invalid(told) = parse(line.as_bytes()) else { panic!("{line:?} was taken") };
            assert!(told.contains(why), "{line:?}: {told}");
        }
        let endless = format!("PROXY UNKNOWN {}", "f".repeat(LINE));
        assert_eq!(parse(endless.as_bytes()), Parsed::Invalid("its line does not end"));
        assert_eq!(parse(b"PROXY TCP4 \xff\r\n"), Parsed::Invalid("its line is no ASCII"));
    }

    #[test]
    fn headers_of_version_2() {
        let four = v2(0x21, 0x11, &FOUR);
        assert_eq!(parse(&four), Parsed::Complete { len: 28, said: said("192.0.2.1:12345", "198.51.100.2:443") });
        let tlvs = [&FOUR[..], &[0x04, 0, 3, 0, 0, 0], &[0x02, 0, 1, b'a']].concat();
        assert!(matches!(parse(&v2(0x21, 0x11, &tlvs)), Parsed::Complete { len: 38, said: Some(_) }));
        assert_eq!(parse(&v2(0x20, 0x00, &[])), Parsed::Complete { len: 16, said: None });
        assert_eq!(parse(&v2(0x20, 0x11, &FOUR)), Parsed::Complete { len: 28, said: None });
        assert_eq!(parse(&v2(0x21, 0x31, &[0; 216])), Parsed::Complete { len: 232, said: None });
        assert_eq!(parse(&v2(0x21, 0x00, &[])), Parsed::Complete { len: 16, said: None });
    }

    #[test]
    fn a_checksum_that_is_there_must_hold() {
        let mut header = v2(0x21, 0x11, &[&FOUR[..], &[3, 0, 4, 0, 0, 0, 0], &[4, 0, 1, 7]].concat());
        let sum = crc32c::crc32c(&header).to_be_bytes();
        header[31..35].copy_from_slice(&sum);
        assert!(matches!(parse(&header), Parsed::Complete { len: 39, said: Some(_) }));
        for i in (16..39).filter(|i| !(28..31).contains(i) && !(35..38).contains(i)) {
            let mut bent = header.clone();
            bent[i] ^= 1;
            assert_eq!(parse(&bent), Parsed::Invalid("its checksum does not hold"), "byte {i}");
        }
    }

    #[test]
    fn what_is_wrong_in_version_2() {
        for (header, why) in [
            (v2(0x11, 0x11, &FOUR), "version"),
            (v2(0x22, 0x11, &FOUR), "command"),
            (v2(0x21, 0x41, &FOUR), "family"),
            (v2(0x21, 0x13, &FOUR), "family"),
            (v2(0x21, 0x11, &FOUR[..11]), "too short"),
            (v2(0x21, 0x21, &[0; 35]), "too short"),
            (v2(0x21, 0x31, &[0; 215]), "too short"),
            (v2(0x21, 0x11, &[&FOUR[..], &[4, 0, 9, 0]].concat()), "cut off"),
            (v2(0x21, 0x11, &[&FOUR[..], &[4, 0]].concat()), "cut off"),
            (v2(0x21, 0x11, &[&FOUR[..], &[3, 0, 1, 0]].concat()), "four bytes"),
            (v2(0x21, 0x11, &[0; LONGEST]), "longer than"),
        ] {
            let Parsed::Invalid(told) = parse(&header) else { panic!("{header:x?} was taken") };
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn what_is_no_header_is_known_by_its_first_bytes() {
        for other in
            ["G", "POST / HTTP/1.1", "PRI * HTTP/2.0\r\n", "PROPFIND / HTTP/1.1", "\r\nGET /", "\x16\x03\x01", "proxy "]
        {
            assert_eq!(parse(other.as_bytes()), Parsed::Absent, "{other:?}");
        }
        for begin in ["", "P", "PRO", "PROXY", "PROXY ", "PROXY TCP4 1.2", "\r", "\r\n\r\n\0\r\nQUIT"] {
            assert_eq!(parse(begin.as_bytes()), Parsed::Incomplete, "{begin:?}");
        }
    }

    #[test]
    fn of_itself_a_sender_says_nothing() {
        assert_eq!(version_1_of(None), b"PROXY UNKNOWN\r\n");
        assert_eq!(parse(&version_2_of(None)), Parsed::Complete { len: 16, said: None });
    }

    #[test]
    fn two_families_meet_in_the_wider_one() {
        let mixed = said("192.0.2.1:5", "[fd00::1]:6");
        assert_eq!(version_1_of(mixed), b"PROXY TCP6 ::ffff:c000:201 fd00::1 5 6\r\n");
        let mapped = said("[::ffff:192.0.2.1]:5", "198.51.100.2:6");
        assert_eq!(version_1_of(mapped), b"PROXY TCP4 192.0.2.1 198.51.100.2 5 6\r\n");
    }

    fn addresses() -> impl Strategy<Value = Addresses> {
        (any::<(IpAddr, u16)>(), any::<(IpAddr, u16)>())
            .prop_map(|(source, destination)| Addresses { source: source.into(), destination: destination.into() })
    }

    proptest! {
        #[test]
        fn written_and_read_it_is_the_same(said in addresses(), behind in prop::collection::vec(any::<u8>(), 0..40)) {
            let (source, destination) = alike(said);
            for header in [version_1_of(Some(said)), version_2_of(Some(said))] {
                let expected = Parsed::Complete { len: header.len(), said: Some(Addresses { source, destination }) };
                prop_assert_eq!(parse(&[&header[..], &behind].concat()), expected);
                for end in 0..header.len() {
                    prop_assert_eq!(parse(&header[..end]), Parsed::Incomplete, "its first {} bytes", end);
                }
            }
        }

        #[test]
        fn nothing_is_a_panic(start in 0usize..4, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let starts: [&[u8]; 4] = [b"", b"PROXY ", b"PROXY TCP4 ", &SIGNATURE];
            let all = [starts[start], &bytes].concat();
            if let Parsed::Complete { len, .. } = parse(&all) {
                prop_assert!(len <= all.len());
            }
        }

        #[test]
        fn enough_bytes_decide(bytes in prop::collection::vec(any::<u8>(), LONGEST..LONGEST + 1), v2 in any::<bool>()) {
            let mut all = bytes;
            let start: &[u8] = if v2 { &SIGNATURE } else { PREFIX };
            all[..start.len()].copy_from_slice(start);
            prop_assert_ne!(parse(&all), Parsed::Incomplete);
        }
    }
}
