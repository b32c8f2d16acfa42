//! The papers of this node: where they are, and how a proxy signs with the cluster's authority.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tandem_proto::papers::{Current, Identity, Papers, Who, fingerprint};
use tandem_proto::trust::v1 as pb;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::control::trust::{Authority, Trust};
use crate::secrets::Secrets;
use crate::trust::{self, Signer};

/// The certificates of this node, and their files.
#[derive(Debug)]
pub struct Desk {
    /// This node's papers: key, certificate, authorities.
    pub file: PathBuf,
    /// The papers of whoever administers the cluster from this machine; a proxy keeps them fresh.
    pub admin_file: PathBuf,
    /// Before the cluster has an authority: the command that gives it one.
    pub founding: PathBuf,
    /// The file of secrets, which a proxy that joins gets a copy of.
    pub secrets: Option<PathBuf>,
    /// How long a certificate holds that is signed here.
    pub life: Duration,
    /// Whom others take this node for, from now on.
    pub papers: watch::Sender<Arc<Papers>>,
}

impl Desk {
    /// Papers as they are renewed.
    pub fn current(&self) -> Current {
        self.papers.subscribe()
    }

    /// Replaces this node's papers, on disk first.
    pub(super) async fn keep(&self, text: String) -> Result<(), String> {
        let papers = Papers::parse(&text).map_err(|e| e.to_string())?;
        // Whatever cannot be used must not replace what can.
        papers.server().map_err(|e| e.to_string())?;
        put(&self.file, text).await?;
        self.papers.send_replace(Arc::new(papers));
        Ok(())
    }

    /// What this node tells of its papers.
    pub(super) fn report(&self) -> pb::Papers {
        let papers = self.papers.borrow();
        pb::Papers {
            signer: papers.signer().unwrap_or_default(),
            not_after_s: papers.not_after,
            believes: papers.believes(),
        }
    }
}

/// Replaces a file of papers. A disk may take long to say that it has them: heartbeats do not wait for it.
pub(super) async fn put(file: &Path, text: String) -> Result<(), String> {
    let to = file.to_owned();
    let done = tokio::task::spawn_blocking(move || trust::put(&to, text.as_bytes())).await;
    done.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(|e| format!("{}: {e}", file.display()))
}

/// An authority's key, opened by the nodes' secret.
fn open(secrets: &Secrets, authority: &Authority) -> Result<Signer, String> {
    let name = trust::sealed_as(&authority.certificate_pem).ok_or("the authority's certificate cannot be read")?;
    let key = secrets.open(&name, &authority.sealed_key).map_err(|e| e.to_string())?;
    let key = Zeroizing::new(String::from_utf8(key.to_vec()).map_err(|_| "the authority's key is no PEM")?);
    Signer::new(&authority.certificate_pem, &key).map_err(|e| e.to_string())
}

/// A certificate (PEM) for the key of `request`, by the authority that signs now.
pub(super) fn sign(
    state: &Trust,
    secrets: Option<&Secrets>,
    request: &[u8],
    identity: &Identity,
    life: Duration,
    now_s: i64,
) -> Result<String, String> {
    let secrets = secrets.ok_or("only a proxy that has the nodes' secret can sign")?;
    let authority = state.signing().ok_or("this cluster has no authority to sign with")?;
    open(secrets, authority)?.sign(request, identity, now_s, life).map_err(|e| e.to_string())
}

/// A new authority, its key sealed; and the key, for who signs with it now.
///
/// # Errors
/// The system has no randomness to give.
pub fn authority(cluster: &str, secrets: &Secrets, now_s: i64) -> Result<(pb::Authority, Zeroizing<String>), String> {
    let (certificate_pem, key) = trust::new_authority(cluster, now_s).map_err(|e| e.to_string())?;
    let name = trust::sealed_as(&certificate_pem).ok_or("the authority's certificate cannot be read")?;
    let sealed_key = secrets.seal(&name, key.as_bytes());
    Ok((pb::Authority { certificate_pem, sealed_key }, key))
}

/// Everyone whose word is believed, PEM.
pub(super) fn believed(state: &Trust) -> Vec<String> {
    state.authorities.iter().map(|a| a.certificate_pem.clone()).collect()
}

/// Fingerprint of an authority in PEM.
pub(super) fn fingerprint_of(certificate_pem: &str) -> Option<String> {
    fingerprint(pem::parse(certificate_pem).ok()?.contents())
}

/// Whom the member `id` is called in its certificate.
pub(super) fn member(id: u64, witness: bool) -> Who {
    if witness { Who::Witness(id) } else { Who::Node(id) }
}
