//! At most one machine answers for a virtual address, at any instant.

use crate::lan::Lan;

pub(super) fn check(lan: &Lan) -> Result<(), String> {
    match lan.holders().into_iter().find(|(_, machines)| machines.len() > 1) {
        Some((address, machines)) => Err(format!("one holder: {address} is on machines {machines:?} at once")),
        None => Ok(()),
    }
}
