//! Everything in a file, and back; and the config alone in one.

use std::os::unix::fs::PermissionsExt;

use crate::fake::tandemctl;
use crate::history::with_past;

#[tokio::test]
async fn what_is_backed_up_is_restored_as_one_command() {
    let node = with_past().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("old.backup");
    let ran = tandemctl(&[&node.address], &format!("backup {}", file.display())).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.starts_with("cluster old at revision 3 written to "), "{}", ran.out);
    let bytes = std::fs::read(&file).unwrap();
    let head = String::from_utf8_lossy(bytes.split(|b| *b == b'\n').next().unwrap()).into_owned();
    assert!(head.starts_with("tandem-backup 1 crc32c="), "{head}");
    assert!(head.ends_with(" cluster=old revision=3 made=2026-09-21T14:13:20Z"), "{head}");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let ran = tandemctl(&[&node.address], &format!("backup {}", file.display())).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("is there already; choose another name"), "{}", ran.err);

    let ran = tandemctl(&[&node.address], &format!("restore {}", file.display())).await;
    assert_eq!(ran.out, "revision 4: restored cluster old as of revision 3, 2026-09-21T14:13:20Z\n");
    let backup = node.changes().remove(0).restore.unwrap();
    assert_eq!((backup.revision, backup.history.len()), (3, 3));

    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let ran = tandemctl(&[&node.address], &format!("restore {}", file.display())).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("is damaged: its checksum does not hold; take another backup"), "{}", ran.err);
    assert_eq!(node.changes().len(), 1);
}

#[tokio::test]
async fn an_exported_config_can_be_applied() {
    let node = with_past().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tandem.toml");
    let ran = tandemctl(&[&node.address], &format!("config export {} --revision 2", file.display())).await;
    assert_eq!(ran.out, format!("revision 2 written to {}\n", file.display()));
    assert!(std::fs::read_to_string(&file).unwrap().contains("weight = 50"));
    let ran = tandemctl(&[&node.address], &format!("config apply {}", file.display())).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
}
