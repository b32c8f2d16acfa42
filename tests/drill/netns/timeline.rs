//! One failover, moment by moment, from what everybody saw and said: and a picture of it.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::Serialize;
use tandem_tests::clock::{Micros, now};
use tandem_tests::story::Seen;

use super::arp;
use super::ground::mac;
use super::nodes::PATIENCE;
use super::play::{self, Undo};
use super::stage::Stage;

/// Something that happened once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Moment {
    /// After the kill, microseconds; before it: negative.
    pub(crate) at: i64,
    pub(crate) what: String,
    /// Who says so.
    pub(crate) known_from: &'static str,
}

impl Moment {
    pub(crate) fn cells(&self) -> Vec<String> {
        vec![format!("{:.1}", self.ms()), self.what.clone(), self.known_from.to_owned()]
    }

    #[allow(clippy::cast_precision_loss, reason = "a second in microseconds")]
    fn ms(&self) -> f64 {
        self.at as f64 / 1_000.0
    }
}

/// Kills the holder, and gathers everything until clients are served again.
///
/// # Errors
/// They are not.
pub(crate) async fn record(stage: &mut Stage) -> anyhow::Result<Vec<Moment>> {
    eprintln!("drill: one failover, moment by moment");
    stage.watching.traffic.calm(0, PATIENCE).await?;
    let (holder, standby) = stage.split().1.roles();
    let (hear, heard) = channel();
    let sender = mac_on_control(holder).context("a node")?;
    stage.ground.at(standby).run(async move { arp::overhear(sender, hear) }).await??;
    // The last heartbeat is to be one of many.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let said_before = stage.nodes.said(standby).len();
    let killed = now();
    stage.nodes.kill(holder)?;
    stage.watching.traffic.calm(killed, PATIENCE).await?;
    let span = killed - 500_000..now();
    let frames: Vec<Micros> = heard.try_iter().collect();
    drop(heard);

    let mut all = Vec::new();
    let mut note = |at: Option<Micros>, what: String, known_from| {
        if let Some(at) = at {
            all.push(Moment { at: since(killed, at), what, known_from });
        }
    };
    // What comes after the kill is the kernel's goodbye for the dead process, and no heartbeat.
    let last = frames.iter().copied().filter(|at| *at <= killed).max();
    note(last, format!("last word of {holder} heard by {standby}"), "frames at the standby");
    note(Some(killed), format!("{holder} is killed"), "the drill");
    let gone = stage.watching.eyes.held(holder, &span).last().map(|s| s.1);
    let still = gone.is_some_and(|at| at + 20_000 > span.end);
    let word = if still { "still has the address" } else { "has the address for the last time" };
    note(gone, format!("{holder}'s kernel {word}"), "a look each 5 ms");
    let lease = last.map(|at| at + stage.timers.lease());
    note(lease, format!("the lease has run out that {standby} gave with it"), "last word + L");
    let said = stage.nodes.said(standby);
    for line in said.get(said_before..).unwrap_or_default().lines() {
        if let (Some(at), Some(what)) = (wall(line), meaning(line, standby)) {
            note(Some(at), what, "the standby's log");
        }
    }
    let had = stage.watching.eyes.held(standby, &(killed..span.end)).first().map(|s| s.0);
    note(had, format!("{standby}'s kernel has the address"), "a look each 5 ms");
    let announced = stage.watching.eyes.announced(standby, &(killed..span.end));
    note(announced, format!("{standby} tells the Ethernet (gratuitous ARP)"), "frames on the Ethernet");
    let byte = stage.watching.traffic.seen(|seen| first_answer(seen, had.unwrap_or(killed)..span.end));
    note(byte, "a new connection has its first echo".to_owned(), "the client");
    all.sort_by_key(|m| m.at);
    all.dedup_by(|later, first| later.what == first.what);

    let (_, mut hands) = stage.split();
    play::mend(&mut hands, vec![Undo::Start(holder)]).await?;
    stage.nodes.settled(&stage.ground).await?;
    Ok(all)
}

fn mac_on_control(machine: &str) -> Option<arp::Mac> {
    let mut mac = mac(machine)?;
    mac[4] = 0x78;
    Some(mac)
}

fn since(killed: Micros, at: Micros) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX) - i64::try_from(killed).unwrap_or(0)
}

fn first_answer(seen: &[Seen], span: Range<Micros>) -> Option<Micros> {
    let answered = seen.iter().filter_map(|s| match s {
        Seen::Answered { ended, .. } => Some(*ended),
        _ => None,
    });
    answered.filter(|at| span.contains(at)).min()
}

/// What a log line tells of a failover.
fn meaning(line: &str, name: &str) -> Option<String> {
    let told = [
        ("new pre-candidate", "asks whether it would be elected"),
        ("a quorum would grant", "would be: it asks for votes"),
        ("a quorum granted", "is elected"),
        ("holding ", "holds the address"),
    ];
    told.iter().find(|(words, _)| line.contains(words)).map(|(_, what)| format!("{name} {what}"))
}

/// The time at the beginning of a log line, on the drill's clock.
fn wall(line: &str) -> Option<Micros> {
    let stamp = line.split_whitespace().next()?.strip_suffix('Z')?;
    let (_, time) = stamp.split_once('T')?;
    let mut parts = time.split(':');
    let (hours, minutes): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let (seconds, fraction) = parts.next()?.split_once('.')?;
    let micros: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    let of_day = ((hours * 60 + minutes) * 60 + seconds.parse::<u64>().ok()?) * 1_000_000 + micros;
    // The two clocks are compared now; the line is of the last minutes.
    #[allow(clippy::disallowed_methods, reason = "log lines carry wall-clock time")]
    let today = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()? % DAY;
    now().checked_sub((today + DAY - of_day) % DAY)
}

const DAY: Micros = 24 * 3_600 * 1_000_000;

const WIDTH: f64 = 980.0;
const LEFT: f64 = 40.0;
const RIGHT: f64 = 600.0;
const TOP: f64 = 96.0;
const ROW: f64 = 34.0;

/// Colours that can be read on white and, by the reader's own choice, on black.
const STYLE: &str = "
  text { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
  .title { font-size: 17px; font-weight: 600 } .quiet { fill: #59636e; font-size: 12px } .ms { font-weight: 600 }
  .grid { stroke: #d1d9e0 } .lead { stroke: #8c959f; stroke-dasharray: 2 3 } .out { fill: #bc4c00; fill-opacity: .14 }
  .dot { fill: #0969da } .bad { fill: #bc4c00 } .good { fill: #1a7f37 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .quiet { fill: #9198a1 } .grid { stroke: #3d444d } .lead { stroke: #656c76 }
    .out { fill: #f0883e; fill-opacity: .2 } .dot { fill: #4493f8 } .bad { fill: #f0883e } .good { fill: #3fb950 }
  }
";

/// The picture.
pub(crate) fn svg(moments: &[Moment], timers: &str) -> String {
    let first = moments.first().map_or(0.0, Moment::ms).min(0.0);
    let last = moments.last().map_or(1.0, Moment::ms).max(first + 1.0);
    let x = |ms: f64| LEFT + (RIGHT - LEFT) * (ms - first) / (last - first);
    #[allow(clippy::cast_precision_loss, reason = "a dozen lines")]
    let y = |n: usize| TOP + ROW * (n as f64 + 0.5);
    let bottom = y(moments.len());
    let height = bottom + 24.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
         aria-label=\"What happens between the kill of the holder and the first echo through the standby\">\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"16\" y=\"28\">One failover: the holder is killed ({timers} timers)</text>\n\
         <text class=\"quiet\" x=\"16\" y=\"48\">milliseconds after the kill; the shaded time is without answer</text>\n"
    );
    let answered = moments.iter().find(|m| m.known_from == "the client").map_or(last, Moment::ms);
    let (from, to) = (x(0.0), x(answered));
    let _ = writeln!(
        out,
        "<rect class=\"out\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        to - from,
        bottom - TOP
    );
    let mut mark = 0.0;
    while mark <= last {
        let at = x(mark);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\"/>\
             <text class=\"quiet\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{mark}</text>",
            TOP - 8.0
        );
        mark += 100.0;
    }
    for (n, moment) in moments.iter().enumerate() {
        let (at, line) = (x(moment.ms()), y(n));
        let class = match n {
            _ if moment.known_from == "the drill" => "bad",
            _ if moment.known_from == "the client" => "good",
            _ => "dot",
        };
        let _ = writeln!(
            out,
            "<line class=\"lead\" x1=\"{at:.1}\" x2=\"{:.1}\" y1=\"{line:.1}\" y2=\"{line:.1}\"/>\
             <circle class=\"{class}\" cx=\"{at:.1}\" cy=\"{line:.1}\" r=\"5\"/>\
             <text class=\"ms\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.1}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            RIGHT + 10.0,
            RIGHT + 58.0,
            line + 4.0,
            moment.ms(),
            RIGHT + 68.0,
            line + 4.0,
            moment.what.replace('&', "&amp;").replace('<', "&lt;"),
        );
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_is_put_on_the_drills_clock() {
        let line = |at: SystemTime| {
            let micros = u64::try_from(at.duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap() % DAY;
            let (s, us) = (micros / 1_000_000, micros % 1_000_000);
            format!("2026-01-02T{:02}:{:02}:{:02}.{us:06}Z  INFO x: y", s / 3600, s / 60 % 60, s % 60)
        };
        #[allow(clippy::disallowed_methods)]
        let (clock, at) = (SystemTime::now(), now());
        let read = wall(&line(clock - Duration::from_millis(1_500))).unwrap();
        assert!(read.abs_diff(at - 1_500_000) < 50_000, "{read} is not 1.5 s before {at}");
        assert_eq!(wall("no time"), None);
    }

    #[test]
    fn every_moment_is_in_the_picture() {
        let moment = |at, what: &str| Moment { at, what: what.to_owned(), known_from: "the client" };
        let picture =
            svg(&[moment(-9_000, "last word"), moment(0, "kill"), moment(512_300, "first <echo>")], "default");
        for words in ["last word", "-9.0", "512.3", "first &lt;echo>"] {
            assert!(picture.contains(words), "{words}");
        }
    }
}
