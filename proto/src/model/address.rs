//! IP addresses with ports.

use std::net::SocketAddr;

use crate::Problems;

pub(super) fn check(path: String, given: &str, problems: &mut Problems) -> Option<SocketAddr> {
    if given.is_empty() {
        problems.add(path, "", "is missing", "write it like \"10.0.0.11:9000\"");
        return None;
    }
    match given.parse::<SocketAddr>() {
        Ok(a) if a.port() == 0 => {
            problems.add(path, given, "has no port to connect to", "use a port from 1 to 65535");
            None
        }
        Ok(a) => Some(a),
        Err(_) => {
            problems.add(
                path,
                given,
                "is not an IP address and port",
                "write it like \"10.0.0.11:9000\" or \"[fd00::11]:9000\"",
            );
            None
        }
    }
}
