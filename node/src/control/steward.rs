//! What a leader does unasked: newcomers vote once they have caught up, half-done changes are ended, the level rises.

use std::time::Duration;

use futures_util::future::join_all;
use tandem_proto::config::v1::Command;
use tandem_proto::raft::v1 as pb;
use tokio::time::Instant;

use super::asking;
use super::handle::{Control, Error};
use super::level::{LEVEL, SAME_HISTORY, common, needed, said};
use super::standing::Member;

/// How soon the leader looks whether a newcomer has caught up.
const LOOK: Duration = Duration::from_millis(200);
/// How soon it asks again whether all have been upgraded, and tries again what failed.
const AGAIN: Duration = Duration::from_secs(2);

/// Runs on every node for its whole life, and does something on the leader.
pub(super) async fn attend(control: Control) {
    let mut standing = control.standing();
    let mut asked: Option<Instant> = None;
    let mut told = String::new();
    loop {
        let leads = standing.wait_for(|s| s.leader == Some(s.me) && s.caught_up && s.fatal.is_none()).await.is_ok();
        if !leads {
            return;
        }
        if asked.is_none_or(|at| at.elapsed() >= AGAIN) && said(control.now().level) < LEVEL {
            asked = Some(Instant::now());
            let why = control.raise().await.err().map(|e| e.to_string()).unwrap_or_default();
            if why != told && !why.is_empty() {
                tracing::info!("{why}");
            }
            told = why;
        }
        let pause = match control.do_chore().await {
            Ok(()) => LOOK,
            Err(e) => {
                tracing::warn!("a change of members is not done yet: {e}");
                AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

impl Control {
    /// Whether every member knows `needed`; they are asked if the log does not say so yet.
    ///
    /// # Errors
    /// Some do not, or cannot be asked.
    pub(super) async fn all_know(&self, needed: u32) -> Result<(), Error> {
        if said(self.now().level) >= needed {
            return Ok(());
        }
        let raised = self.raise().await;
        // What all know may be enough, though some know less than this node.
        if said(self.now().level) >= needed {
            return Ok(());
        }
        match raised {
            Ok(()) => Err(Error::Old { needed, old: "a member".to_owned() }),
            Err(Error::Old { old, .. }) => Err(Error::Old { needed, old }),
            Err(other) => Err(other),
        }
    }

    /// Puts into the log what every member knows, if that is more than the log says.
    async fn raise(&self) -> Result<(), Error> {
        self.leads()?;
        let here = self.here();
        let others: Vec<Member> = here.members.values().filter(|m| m.id != here.me).cloned().collect();
        let answers = join_all(others.iter().map(|m| asking::probe(&self.dial, &m.address, &self.identity))).await;
        let now = self.now();
        let own = now.history.begins_with(now.revision);
        let history_from = answers.iter().flatten().map(|reply| reply.history_from).fold(own, u64::max);
        let (lowest, old) = common(now.level, others.iter().zip(answers).map(|(m, answer)| said_by(m, answer)));
        // Whatever a node forgets by that, another has never known.
        let history_from = if lowest >= SAME_HISTORY { history_from } else { 0 };
        let command = Command { raise_level: lowest, history_from, ..Command::default() };
        let level = needed(&command);
        // To say a level takes one, too.
        if lowest > said(self.now().level) && lowest >= level {
            self.write(Command { level, ..command }).await?;
            tracing::info!(level = lowest, history_from, "every member knows this level");
        }
        if old.is_empty() { Ok(()) } else { Err(Error::Old { needed: LEVEL, old: old.join(", ") }) }
    }
}

/// The level of one who was asked. One that does not take part yet cannot tell where its history begins.
fn said_by(member: &Member, answer: Result<pb::ProbeReply, String>) -> (String, Result<u32, String>) {
    match answer {
        Ok(reply) if reply.level >= SAME_HISTORY && reply.history_from == 0 => {
            (format!("{}, which does not take part now", member.name), Ok(SAME_HISTORY - 1))
        }
        answer => (member.name.clone(), answer.map(|reply| reply.level)),
    }
}
