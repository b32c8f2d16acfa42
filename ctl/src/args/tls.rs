//! What can be said of certificates and TLS.

use std::path::PathBuf;

use clap::Subcommand;
use tandem_proto::model::{ClientAuth, TlsVersion};

use super::values::{text_file, words};

/// Certificates that listeners and upstreams show.
#[derive(Debug, Subcommand)]
pub(crate) enum Certificate {
    /// Add a certificate. Its key is sealed by the node that is asked, a proxy on this machine, before it is kept.
    #[command(after_help = "Example: tandemctl certificate add web --chain fullchain.pem --key privkey.pem")]
    Add {
        name: String,
        #[command(flatten)]
        files: Files,
    },
    /// Put a new certificate and key in place of it: new handshakes use it, sessions go on.
    #[command(after_help = "Example: tandemctl certificate set web --chain fullchain.pem --key privkey.pem")]
    Set {
        name: String,
        #[command(flatten)]
        files: Files,
    },
    /// Remove certificates that nobody uses.
    #[command(after_help = "Example: tandemctl certificate rm web")]
    Rm {
        /// One or more, removed together or not at all.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// List them: what for, until when, who uses them, and where their keys open.
    Ls,
}

/// Where a certificate and its key are.
#[derive(Debug, clap::Args)]
pub(crate) struct Files {
    /// PEM: the certificate, then those that vouch for it.
    #[arg(long, value_name = "FILE", value_parser = text_file)]
    pub(crate) chain: String,
    /// PEM, unencrypted.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
}

/// How a listener's clients speak TLS.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct ListenerTls {
    /// Speak TLS, and show these certificates; the first is for clients that ask for none of them. Repeat it or separate
    /// with commas.
    #[arg(long = "tls-cert", value_name = "NAME", value_delimiter = ',')]
    pub(crate) tls_cert: Vec<String>,
    /// Refuse older versions. Default: 1.2.
    #[arg(long, value_name = "VERSION", value_parser = words(TlsVersion::WORDS))]
    pub(crate) tls_min: Option<TlsVersion>,
    /// Whether clients show a certificate.
    #[arg(long, value_parser = words(ClientAuth::WORDS))]
    pub(crate) client_auth: Option<ClientAuth>,
    /// PEM: who vouches for clients.
    #[arg(long, value_name = "FILE", value_parser = text_file)]
    pub(crate) client_ca: Option<String>,
}

/// How an upstream's backends are spoken to.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct UpstreamTls {
    /// Speak TLS to the backends, and verify them; so does every option that begins with --tls.
    #[arg(long)]
    pub(crate) tls: bool,
    /// PEM: who vouches for the backends; "": those whom the web trusts.
    #[arg(long, value_name = "FILE", value_parser = text_file)]
    pub(crate) tls_ca: Option<String>,
    /// The name their certificates must have; "": the backend's own.
    #[arg(long, value_name = "HOST")]
    pub(crate) tls_server_name: Option<String>,
    /// Take any certificate: whoever is on the way may be the backend.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) tls_insecure: Option<bool>,
    /// Show this certificate to the backends; "": none.
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_cert: Option<String>,
    /// Refuse older versions. Default: 1.2.
    #[arg(long, value_name = "VERSION", value_parser = words(TlsVersion::WORDS))]
    pub(crate) tls_min: Option<TlsVersion>,
    /// Speak plainly to the backends again.
    #[arg(long, conflicts_with_all = ["tls", "tls_ca", "tls_server_name", "tls_insecure", "tls_cert", "tls_min"])]
    pub(crate) no_tls: bool,
}
