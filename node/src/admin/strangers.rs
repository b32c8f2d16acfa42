//! A certificate says who somebody is; whether that is a member still, the log says.

use tonic::Status;

use super::caller::{Caller, Role as CallerRole};
use super::service::Admin;
use crate::control::{NodeId, Role, Roll};

/// The members as this node knows them now.
#[derive(Clone)]
pub struct Members(Admin);

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Members")
    }
}

impl Members {
    /// As `admin` knows them.
    pub fn new(admin: Admin) -> Self {
        Self(admin)
    }

    /// A node that is none any more is refused at once, whatever its certificate says.
    pub(super) fn check(&self, caller: Caller) -> Result<Caller, Status> {
        let (id, role) = match caller.role {
            CallerRole::Proxy(id) => (id, Role::Proxy),
            CallerRole::Witness(id) => (id, Role::Witness),
            _ => return Ok(caller),
        };
        // Before consensus runs here nothing is known, and nothing but the forming of a cluster is answered.
        let Ok(rooms) = self.0.rooms() else { return Ok(caller) };
        let known = rooms.control.here().members.get(&id).map(|m| m.role);
        let Some(why) = stranger(id, role, known, &rooms.control.now().roll) else { return Ok(caller) };
        tracing::warn!(source = %caller.source, who = %caller, "refused: {why}");
        Err(Status::permission_denied(why))
    }
}

/// Why the node `id` with a certificate as `role` is none of us; `known`: the member's role, if it is one.
fn stranger(id: NodeId, role: Role, known: Option<Role>, roll: &Roll) -> Option<String> {
    match known {
        Some(known) if known == role => None,
        Some(_) => Some(format!("node {id} has another role than its certificate says")),
        // It may have come while this node was away, and be the one that can tell.
        None if id >= roll.next() && !roll.is_removed(id) => None,
        None => Some(format!("node {id} was removed from this cluster; to come back it joins anew: tandemd join")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_removed_are_refused_and_the_new_are_not() {
        let mut roll = Roll::default();
        roll.members_are([1, 2, 3]);
        roll.members_are([1, 3]);
        assert_eq!(stranger(1, Role::Proxy, Some(Role::Proxy), &roll), None);
        assert!(stranger(1, Role::Witness, Some(Role::Proxy), &roll).is_some(), "a witness that says it is a proxy");
        assert!(stranger(2, Role::Proxy, None, &roll).is_some_and(|why| why.contains("was removed")));
        assert_eq!(stranger(4, Role::Proxy, None, &roll), None, "who joined while this node was away");
    }
}
