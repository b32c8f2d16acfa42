//! What would change: of a change that is not made, of a file, of a revision.

use std::path::Path;

use serde_json::json;
use tandem_proto::Problems;
use tandem_proto::admin::v1::plan_reply::Outcome;
use tandem_proto::admin::v1::{PlanReply, Step};
use tandem_proto::model::{Config, Difference};

use super::document::{checked, parsed};
use super::tree;
use crate::client::Client;
use crate::output::{Error, Ink, Told};

/// `--dry-run` of any change.
pub(super) fn told(reply: PlanReply) -> Result<Told, Error> {
    let plan = match reply.outcome {
        Some(Outcome::Plan(plan)) => plan,
        Some(Outcome::Refused(refused)) => {
            return Err(Error::Refused { problems: refused.problems.into(), revision: Some(refused.revision) });
        }
        None => {
            let mend = "use the tandemctl of the node's version";
            let problems = Problems::one("answer", "", "is of a kind this tandemctl does not know", mend);
            return Err(Error::Refused { problems, revision: None });
        }
    };
    let ends: u64 = plan.steps.iter().map(|step| step.ends).sum();
    let sum = match (plan.steps.is_empty(), ends) {
        (true, _) => "it changes nothing".to_owned(),
        (_, 0) => "it ends no session; nothing was changed".to_owned(),
        (_, n) => format!("it ends up to {n} sessions; nothing was changed"),
    };
    let tree = tree::people(&plan.steps, Ink::of_stdout());
    Ok(Told {
        people: format!("{tree}dry run at revision {}: {sum}\n", plan.revision),
        programs: json!({
            "dry_run": true,
            "revision": plan.revision,
            "changes": tree::programs(&plan.steps),
            "ends": ends,
            "notes": plan.notes,
        }),
        notes: plan.notes,
    })
}

/// `config diff FILE`.
pub(super) async fn with_file(client: &Client, file: &Path) -> Result<Told, Error> {
    let (name, given) = parsed(file)?;
    let reply = client.config().await?;
    let wanted = Config::try_from(&given).map_err(|problems| Error::Refused { problems, revision: None })?;
    let steps = steps(&checked(&reply)?, &wanted);
    Ok(shown(&steps, reply.revision, &format!("{name} says what revision {} is", reply.revision)))
}

/// `config diff --revision`.
pub(super) async fn of_revision(client: &Client, revision: u64) -> Result<Told, Error> {
    let after = client.config_of(Some(revision)).await?;
    // Numbers have a gap where a backup was restored.
    let before = client.history(super::history::before(revision)).await?.records.first().map_or(0, |r| r.revision);
    let before = match before {
        0 => revision.saturating_sub(1),
        known => known,
    };
    let before = client.config_of(Some(before)).await?;
    let steps = steps(&checked(&before)?, &checked(&after)?);
    Ok(shown(&steps, revision, &format!("revision {revision} changed nothing")))
}

/// The differences, as steps of which nobody counted the sessions.
pub(super) fn steps(before: &Config, after: &Config) -> Vec<Step> {
    Difference::between(before, after).into_iter().map(Into::into).collect()
}

fn shown(steps: &[Step], revision: u64, same: &str) -> Told {
    let people = if steps.is_empty() { format!("{same}\n") } else { tree::people(steps, Ink::of_stdout()) };
    Told { people, programs: json!({"revision": revision, "changes": tree::programs(steps)}), notes: Vec::new() }
}
