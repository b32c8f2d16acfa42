//! Private keys on their way to the config: sealed here, refused where they are not, looked at whether they open.

use prost::Message;
use tandem_proto::Problems;
use tandem_proto::admin::v1 as pb;
use tandem_proto::config::v1::Command;
use tandem_proto::config::v1::edit::Edit;
use tonic::{Request, Status};
use zeroize::Zeroizing;

use super::caller::Caller;
use crate::config::model::{Config, Name, SEALED};
use crate::secrets::Secrets;

/// How every private key in PEM ends its first line, whatever its kind.
const LABEL: &[u8] = b"PRIVATE KEY-----";

/// Seals a key. Where the port is neither encrypted nor knows who asks, a key may come only from its own machine.
pub(super) fn seal(
    me: &str,
    secrets: Option<&Secrets>,
    ask: Request<pb::SealRequest>,
) -> Result<pb::SealReply, Status> {
    let known = ask.extensions().get::<Caller>().is_some_and(|caller| caller.proven().is_some());
    let (from, to) = (ask.remote_addr().map(|a| a.ip()), ask.local_addr().map(|a| a.ip()));
    if !known && !from.is_some_and(|ip| ip.to_canonical().is_loopback() || Some(ip) == to) {
        let why = format!("{me} takes keys only from its own machine, for they are not encrypted on the way");
        return Err(Status::permission_denied(format!("{why}; run tandemctl on a proxy, with --node of that proxy")));
    }
    let Some(secrets) = secrets else {
        return Err(Status::failed_precondition(format!("{me} has no secret to seal with; {MEND}")));
    };
    let pb::SealRequest { name, chain_pem, key_pem } = ask.into_inner();
    let key_pem = Zeroizing::new(key_pem);
    let sealed = match Name::new(&name) {
        Some(name) => secrets.seal_key(&name, &chain_pem, &key_pem),
        None => {
            let mend = "use 1 to 63 of a-z 0-9 . _ - and begin with a letter or digit";
            Err(Problems::one("certificates", name, "is no name", mend))
        }
    };
    Ok(match sealed {
        Ok(sealed_key) => pb::SealReply { sealed_key, problems: Vec::new() },
        Err(problems) => pb::SealReply { sealed_key: Vec::new(), problems: problems.into_vec() },
    })
}

const MEND: &str = "make one (tandemd secret FILE), copy it to every proxy, and name it in node.toml: [secrets] file";

/// A command that holds a key in the clear must not even come to be refused by the log: it would stay in it.
pub(super) fn plain_keys(command: &Command) -> Problems {
    let mut problems = Problems::default();
    let mend = "let a node seal it: tandemctl certificate add NAME --chain FILE --key FILE";
    if memchr::memmem::find(&command.encode_to_vec(), LABEL).is_some() {
        problems.add("edit", "", "has a private key in it that is not sealed", mend);
    }
    let certificates = command.edits.iter().flat_map(|edit| match &edit.edit {
        Some(Edit::AddCertificate(c) | Edit::SetCertificate(c)) => std::slice::from_ref(c),
        Some(Edit::Replace(whole)) => &whole.certificates,
        _ => &[],
    });
    for c in certificates.filter(|c| !c.sealed_key.starts_with(SEALED)) {
        problems.add(format!("certificates.{}.sealed_key", c.name), "", "is no sealed key", mend);
    }
    problems
}

/// Which keys open here.
pub(super) fn reports(secrets: Option<&Secrets>, config: &Config) -> Vec<pb::CertificateReport> {
    let error = |name: &Name, sealed: &[u8]| match secrets {
        None => {
            Some("there is no secret to open its key with; copy the others' and name it: [secrets] file".to_owned())
        }
        Some(secrets) => secrets.open(name, sealed).err().map(|e| e.to_string()),
    };
    let all = config.certificates.iter().map(|(name, c)| pb::CertificateReport {
        name: name.to_string(),
        error: error(name, c.sealed_key()).unwrap_or_default(),
    });
    all.collect()
}
