//! A node.toml, as `init` and `join` write it. Pure.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::config::Provider;

/// What is written.
pub(super) struct Wanted<'a> {
    pub(super) cluster: &'a str,
    pub(super) name: &'a str,
    pub(super) witness: bool,
    pub(super) data_dir: &'a Path,
    pub(super) listen: SocketAddr,
    pub(super) timers: &'a str,
    pub(super) vip: Provider,
}

/// The file's text.
pub(super) fn text(w: &Wanted<'_>) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let path = |file: &str| quoted(&w.data_dir.join(file).to_string_lossy());
    let mut text = format!("cluster = {}\nname = {}\n", quoted(w.cluster), quoted(w.name));
    if w.witness {
        text.push_str("role = \"witness\"\n");
    }
    let _ = write!(
        text,
        "data_dir = {}\n\n[control]\nlisten = \"{}\"\ntimers = \"{}\"\n\n\
         # Key, certificate and authorities. tandemd renews them by itself.\n[trust]\nfile = {}\n",
        path(""),
        w.listen,
        w.timers,
        path("node.pem"),
    );
    if !w.witness {
        let _ = write!(
            text,
            "\n# Opens the keys of certificates; the same on every proxy.\n[secrets]\nfile = {}\n",
            path("secret")
        );
    }
    match &w.vip {
        Provider::Linux { interface } => {
            let _ = write!(text, "\n[vip]\nprovider = \"linux\"\ninterface = {}\n", quoted(interface));
        }
        Provider::Bind => text.push_str("\n[vip]\nprovider = \"bind\"\n"),
        Provider::None => {}
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{NodeFile, Role};

    #[test]
    fn what_is_written_is_read_back_as_it_was_meant() {
        let wanted = |witness, vip| Wanted {
            cluster: "chat",
            name: "a",
            witness,
            data_dir: Path::new("/var/lib/ta\"ndem"),
            listen: ([10, 0, 0, 1], 7440).into(),
            timers: "fast",
            vip,
        };
        let proxy = NodeFile::parse(&text(&wanted(false, Provider::Linux { interface: "eth0".into() }))).unwrap();
        assert_eq!((proxy.role, proxy.vip), (Role::Proxy, Provider::Linux { interface: "eth0".into() }));
        assert_eq!(proxy.trust.unwrap().file, Path::new("/var/lib/ta\"ndem/node.pem"));
        assert_eq!(proxy.secrets.unwrap(), Path::new("/var/lib/ta\"ndem/secret"));
        let witness = NodeFile::parse(&text(&wanted(true, Provider::None))).unwrap();
        assert_eq!((witness.role, witness.secrets), (Role::Witness, None));
    }
}
