//! What the demo is told to do: `wait 3; kill; wait 5; revive; move; add; quit`. Pure.

use std::time::Duration;

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Let it run.
    Wait(Duration),
    /// SIGKILL to the node that holds the address.
    Kill,
    /// Start the killed node again.
    Revive,
    /// Planned move of the address to the other proxy.
    Move,
    /// Add the waiting backend through tandemctl.
    Add,
    /// Stop everything.
    Quit,
}

/// Reads a script.
///
/// # Errors
/// Names the step that is none.
pub(super) fn parse(script: &str) -> Result<Vec<Step>, String> {
    let steps = script.split(';').map(str::trim).filter(|s| !s.is_empty());
    steps.map(step).collect()
}

fn step(text: &str) -> Result<Step, String> {
    match text.split_once(' ').map_or((text, ""), |(verb, rest)| (verb, rest.trim())) {
        ("kill", "") => Ok(Step::Kill),
        ("revive", "") => Ok(Step::Revive),
        ("move", "") => Ok(Step::Move),
        ("add", "") => Ok(Step::Add),
        ("quit", "") => Ok(Step::Quit),
        ("wait", seconds) => match seconds.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()) {
            Some(d) => Ok(Step::Wait(d)),
            None => Err(format!("{text:?}: wait for how many seconds? write: wait 3")),
        },
        _ => Err(format!("{text:?} is no step; known: wait N, kill, revive, move, add, quit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_step_by_step() {
        let steps = parse("wait 0.5; kill;revive ; move; add; quit;");
        let wait = Step::Wait(Duration::from_millis(500));
        assert_eq!(steps, Ok(vec![wait, Step::Kill, Step::Revive, Step::Move, Step::Add, Step::Quit]));
    }

    #[test]
    fn a_step_that_is_none_is_named() {
        assert!(parse("wait soon").is_err_and(|e| e.contains("wait soon")));
        assert!(parse("kill a").is_err_and(|e| e.contains("known:")));
    }
}
