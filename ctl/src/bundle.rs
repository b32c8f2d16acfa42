//! The certificate an operator shows: the one named, or the one this machine keeps.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tandem_proto::papers::{Current, Papers};
use tokio::sync::watch;

/// Where a proxy keeps the papers of those who administer the cluster from there; the second is for copies.
const KEPT: [&str; 2] = ["/var/lib/tandem/admin.pem", "/etc/tandem/admin.pem"];
/// Where a node is that authenticates nobody.
const PLAIN: &str = "127.0.0.1:7440";

/// Whom to ask, and what to show them.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) nodes: Vec<String>,
    pub(crate) papers: Option<Current>,
}

/// From what the command line says: a bundle that is named must be there; an empty name means none. At a local socket it
/// is the file system that lets one in: there this machine's own only helps to find the leader, where it can be read.
pub(crate) fn way(nodes: Vec<String>, bundle: Option<PathBuf>) -> Result<Way, String> {
    let local = !nodes.is_empty() && nodes.iter().all(|node| node.starts_with("unix:"));
    let mut kept = KEPT.iter().map(Path::new).filter(|file| file.exists());
    let papers = match bundle {
        Some(none) if none.as_os_str().is_empty() => None,
        Some(file) => Some(read(&file)?),
        None if local => kept.next().and_then(|file| read(file).ok()),
        None => kept.next().map(read).transpose()?,
    };
    let named = papers.as_ref().map(|p| p.nodes.clone()).unwrap_or_default();
    let nodes = match (nodes.is_empty(), named.is_empty()) {
        (false, _) => nodes,
        (true, false) => named,
        (true, true) => vec![PLAIN.to_owned()],
    };
    Ok(Way { nodes, papers: papers.map(|p| watch::channel(p).1) })
}

fn read(file: &Path) -> Result<Arc<Papers>, String> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|e| {
        format!("{shown} cannot be read: {e}; run tandemctl as root here, or give another: --bundle FILE")
    })?;
    Papers::parse(&text)
        .map(Arc::new)
        .map_err(|e| format!("{shown} is of no use: {e}; give a whole one: --bundle FILE"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_name_means_that_nothing_is_shown() {
        let way = way(Vec::new(), Some(PathBuf::new())).unwrap();
        assert_eq!(way.nodes, [PLAIN]);
        assert!(way.papers.is_none());
    }

    #[test]
    fn a_bundle_that_is_named_must_be_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("admin.pem");
        assert!(way(Vec::new(), Some(file.clone())).unwrap_err().contains("cannot be read"));
        std::fs::write(&file, "nothing").unwrap();
        assert!(way(Vec::new(), Some(file)).unwrap_err().contains("there is no private key in it"));
    }
}
