//! Which request needs what. Pure. What is not named here is refused.

use tandem_proto::config::v1::Command;
use tandem_proto::config::v1::edit::Edit;
use tonic::Status;

use super::caller::{Caller, Role};
use crate::control::state::State;

/// What a request needs its caller to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Any user: it only looks.
    Viewer,
    /// It changes what is served.
    Operator,
    /// It changes who is trusted, or carries a secret.
    Admin,
    /// It is between nodes.
    Node,
}

/// What the method at this path of the node port needs; `None`: there is no such method, and nobody may call it.
pub(super) fn needs(path: &str) -> Option<Needs> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    match service {
        "tandem.admin.v1.Admin" => admin(method),
        "tandem.admin.v1.Peer" => peer(method),
        "tandem.raft.v1.Raft" => raft(method),
        "tandem.raft.v1.Formation" => formation(method),
        _ => None,
    }
}

fn admin(method: &str) -> Option<Needs> {
    Some(match method {
        "Status" | "GetConfig" | "History" | "Watch" | "Authorities" => Needs::Viewer,
        "Change" | "Plan" | "MoveVip" | "Levels" | "Drain" => Needs::Operator,
        "Seal" | "Backup" | "SetMember" => Needs::Admin,
        "CreateToken" | "Tokens" | "RemoveToken" | "RotateAuthority" | "RetireAuthority" => Needs::Admin,
        _ => return None,
    })
}

fn peer(method: &str) -> Option<Needs> {
    matches!(method, "Report" | "TryBind" | "SetLevels" | "DrainHere" | "Renew").then_some(Needs::Node)
}

fn raft(method: &str) -> Option<Needs> {
    matches!(method, "Append" | "RequestVote" | "PreVote" | "Transfer" | "InstallSnapshot").then_some(Needs::Node)
}

fn formation(method: &str) -> Option<Needs> {
    matches!(method, "Probe" | "Adopt" | "Join").then_some(Needs::Node)
}

/// Whether this caller may ask for what needs that. A node is no user: a stolen witness administers nothing.
fn may(role: Role, needs: Needs) -> bool {
    match (role, needs) {
        (Role::Anyone, _) => true,
        (Role::Proxy(_) | Role::Witness(_), needs) => needs == Needs::Node,
        (_, Needs::Node) => false,
        (Role::Admin, _) => true,
        (Role::Operator, needs) => needs != Needs::Admin,
        (Role::Viewer, needs) => needs == Needs::Viewer,
    }
}

/// Whether a command that cannot be planned now may change certificates when its turn comes: what stands before it in the log
/// can make it fit, the revision it waits for above all.
pub(super) fn may_certify(state: &State, command: &Command) -> bool {
    let any = |is: fn(&Edit) -> bool| command.edits.iter().filter_map(|e| e.edit.as_ref()).any(is);
    if any(|e| matches!(e, Edit::AddCertificate(_) | Edit::SetCertificate(_) | Edit::RemoveCertificate(_))) {
        return true;
    }
    let now = Command { expect_revision: command.expect_revision.map(|_| state.revision), ..command.clone() };
    match state.plan(&now) {
        Ok(next) => next.certificates != state.config.certificates,
        // A document alone is wrong for reasons of its own, and stays so.
        Err(_) => command.restore.is_some() || (command.edits.len() > 1 && any(|e| matches!(e, Edit::Replace(_)))),
    }
}

/// Refuses a caller that may not ask for `what`; who has passed no guard may nothing.
///
/// # Errors
/// PERMISSION_DENIED or UNAUTHENTICATED, for the caller to read.
pub(super) fn check(caller: Option<&Caller>, what: &str, needs: Needs) -> Result<(), Status> {
    let Some(caller) = caller else {
        return Err(unproven());
    };
    if may(caller.role, needs) {
        return Ok(());
    }
    tracing::warn!(what, source = %caller.source, who = %caller, "refused: it takes another role");
    Err(Status::permission_denied(refusal(caller, what, needs)))
}

/// For who proves nothing.
pub(super) fn unproven() -> Status {
    Status::unauthenticated("show a certificate of this cluster: tandemctl --bundle FILE")
}

/// Why it may not, for the caller: who must act, and what mends it.
fn refusal(caller: &Caller, what: &str, needs: Needs) -> String {
    let whom = match needs {
        Needs::Viewer => "a viewer",
        Needs::Operator => "an operator",
        Needs::Admin => "an admin",
        Needs::Node => return format!("{caller} may not ask for {what}: only nodes of the cluster may"),
    };
    format!("{caller} may not ask for {what}: that takes {whom}; ask with the papers of one (--bundle FILE)")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::admin::caller::Source;
    use tandem_proto::config::v1 as pb;

    /// Path of each method that the files of the protocol name.
    fn methods() -> Vec<String> {
        let protocol = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/proto");
        let mut found = Vec::new();
        // The join port is another one, and has one method.
        let files = std::fs::read_dir(protocol).unwrap().map(|file| file.unwrap().path());
        for file in files.filter(|file| !file.ends_with("join.proto")) {
            let text = std::fs::read_to_string(file).unwrap();
            let (mut package, mut service) = ("", "");
            for line in text.lines() {
                let word = |after: &str| {
                    line.trim().strip_prefix(after).map(|rest| {
                        rest.split(|c: char| !c.is_alphanumeric() && c != '.' && c != '_').next().unwrap_or_default()
                    })
                };
                package = word("package ").unwrap_or(package);
                service = word("service ").unwrap_or(service);
                found.extend(word("rpc ").map(|method| format!("/{package}.{service}/{method}")));
            }
        }
        found
    }

    #[test]
    fn every_method_of_the_protocol_has_an_entry() {
        let methods = methods();
        assert!(methods.len() > 15 && methods.contains(&"/tandem.admin.v1.Admin/Change".to_owned()), "{methods:?}");
        let open: Vec<_> = methods.iter().filter(|m| needs(m).is_none()).collect();
        assert!(open.is_empty(), "add to rights.rs who may call: {open:?}");
    }

    #[test]
    fn what_is_not_named_is_refused() {
        for path in ["", "/", "/tandem.admin.v1.Admin/", "/tandem.admin.v1.Admin/Burn", "/x.Y/Status", "Status"] {
            assert_eq!(needs(path), None, "{path}");
        }
    }

    #[test]
    fn each_role_may_what_it_is_for_and_no_more() {
        use Needs::{Admin, Node, Operator, Viewer};
        let allowed = |role| [Viewer, Operator, Admin, Node].into_iter().filter(|n| may(role, *n)).collect::<Vec<_>>();
        assert_eq!(allowed(Role::Viewer), [Viewer]);
        assert_eq!(allowed(Role::Operator), [Viewer, Operator]);
        assert_eq!(allowed(Role::Admin), [Viewer, Operator, Admin]);
        assert_eq!(allowed(Role::Proxy(1)), [Node]);
        assert_eq!(allowed(Role::Witness(3)), [Node]);
    }

    #[test]
    fn a_command_that_waits_for_a_revision_to_come_is_looked_at_as_if_it_had_come() {
        let state = State::default();
        let of = |edits: Vec<Edit>| Command {
            expect_revision: Some(1),
            edits: edits.into_iter().map(|edit| pb::Edit { edit: Some(edit) }).collect(),
            ..Default::default()
        };
        assert!(state.plan(&of(vec![])).is_err());
        assert!(!may_certify(&state, &of(vec![Edit::RemoveUpstream("chat".into())])));
        assert!(!may_certify(&state, &of(vec![Edit::Replace(pb::Config::default())])));
        assert!(may_certify(&state, &of(vec![Edit::RemoveCertificate("web".into())])));
        let behind = [Edit::RemoveUpstream("chat".into()), Edit::Replace(pb::Config::default())];
        assert!(may_certify(&state, &of(behind.to_vec())));
    }

    #[test]
    fn a_refusal_says_what_it_takes_and_who_gives_it() {
        let caller = Caller { name: "carol".into(), role: Role::Viewer, source: Source::Socket };
        assert_eq!(
            refusal(&caller, "Change", Needs::Operator),
            "carol (viewer) may not ask for Change: that takes an operator; ask with the papers of one (--bundle FILE)"
        );
    }
}
