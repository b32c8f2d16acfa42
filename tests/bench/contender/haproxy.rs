//! HAProxy: one thread, no log.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use super::stage::Place;

/// Its program. Debian keeps it where only root's PATH leads.
pub(super) const PROGRAM: &str = "/usr/sbin/haproxy";

/// How large its buffers are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Buffers {
    /// 16 KiB.
    Stock,
    /// 64 KiB, and splice(2) instead of them where it sees fit.
    Large,
}

/// How to start it.
pub(super) fn command(place: &Place<'_>, buffers: Buffers) -> anyhow::Result<Command> {
    // Two descriptors a session, and some of its own. With splice each session may want pipes too, and it refuses to
    // start if they might not suffice.
    let sessions = match buffers {
        Buffers::Stock => (place.stage.descriptors.saturating_sub(400) / 2).min(20_000),
        Buffers::Large => (place.stage.descriptors / 8).min(1_000),
    };
    let (size, splice) = match buffers {
        Buffers::Stock => ("", ""),
        Buffers::Large => ("tune.bufsize 65536", "option splice-auto"),
    };
    let ssl = match place.certificate {
        Some(certificate) => format!(" ssl crt {} alpn http/1.1", certificate.both.display()),
        None => String::new(),
    };
    let listen = place.listen;
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn {sessions}\n  {size}\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  timeout tunnel 1h\n  \
         option forwardfor\n  {splice}\n\
         frontend bench\n  bind {listen} backlog 4096{ssl}\n  default_backend bench\n\
         backend bench\n  balance roundrobin\n"
    );
    for (n, backend) in place.stage.backends.iter().enumerate() {
        writeln!(text, "  server b{n} {backend}")?;
    }
    let file = place.dir.join("haproxy.cfg");
    fs::write(&file, text)?;
    let mut command = Command::new(PROGRAM);
    command.arg("-db").arg("-f").arg(file);
    Ok(command)
}
