//! nginx: one worker, no access log, connections to backends kept.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use super::stage::Place;

/// Its program. Debian keeps it where only root's PATH leads.
pub(super) const PROGRAM: &str = "/usr/sbin/nginx";

/// How large its buffers are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Buffers {
    /// As by default.
    Stock,
    /// 64 KiB, both ways: what clients send after an upgrade goes through the buffer for request heads.
    Large,
}

/// How to start it.
pub(super) fn command(place: &Place<'_>, buffers: Buffers) -> anyhow::Result<Command> {
    let mut upstream = String::new();
    for backend in &place.stage.backends {
        write!(upstream, "server {backend}; ")?;
    }
    let large =
        "client_header_buffer_size 64k; proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;";
    // Above fifteen in sixteen of them it closes connections that have not asked yet: that must never be near.
    let (listen, connections) = (place.listen, place.stage.descriptors * 2);
    let (ssl, shows) = match place.certificate {
        Some(certificate) => (
            " ssl",
            format!(
                "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.2 TLSv1.3;",
                certificate.chain.display(),
                certificate.key.display()
            ),
        ),
        None => ("", String::new()),
    };
    let sized = if buffers == Buffers::Large { large } else { "" };
    for kind in ["body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        fs::create_dir(place.dir.join(kind))?;
    }
    let text = format!(
        "daemon off; worker_processes 1; pid nginx.pid; error_log stderr crit; user root;
events {{ worker_connections {connections}; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream bench {{ {upstream} keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen {listen}{ssl} backlog=4096; {shows} {sized}
    location / {{
      proxy_pass http://bench; proxy_http_version 1.1; proxy_read_timeout 1h; proxy_send_timeout 1h;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
    }}
  }}
}}
"
    );
    fs::write(place.dir.join("nginx.conf"), text)?;
    let mut command = Command::new(PROGRAM);
    command.arg("-p").arg(place.dir).args(["-e", "stderr", "-c"]).arg(place.dir.join("nginx.conf"));
    Ok(command)
}
