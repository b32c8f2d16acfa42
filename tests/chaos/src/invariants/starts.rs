//! No fault here damages what a node cannot mend: after each crash it starts again.

use crate::node::Machine;

pub(super) fn check(machines: &[Machine]) -> Result<(), String> {
    for machine in machines.iter().filter(|machine| machine.is_on() && !machine.disk.troubled()) {
        let seen = machine.seen();
        if let Some(why) = seen.refused.or_else(|| seen.store?.unfit()) {
            return Err(format!("starts: {} does not: {why}", machine.member().name));
        }
    }
    Ok(())
}
