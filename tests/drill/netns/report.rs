//! What the drill found, for people and for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use tandem_tests::story::percentile;

use super::fault::Timers;
use super::figures::{Figures, Row};
use super::idle::Quiet;
use super::peers::Peer;
use super::random::Sequences;
use super::timeline::Moment;
use super::traffic::HELD;

/// Everything.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    /// How the drill was asked for.
    pub(crate) line: String,
    /// Of the programs under test: how they were built.
    pub(crate) build: &'static str,
    /// Cores of this machine.
    pub(crate) cores: usize,
    pub(crate) profiles: Vec<Profile>,
    pub(crate) peers: Vec<Peer>,
    /// Why it is not all that was asked for.
    pub(crate) cut_short: Option<String>,
}

/// What was done with one set of timers.
#[derive(Serialize)]
pub(crate) struct Profile {
    pub(crate) timers: Timers,
    pub(crate) rows: Vec<Row>,
    /// One failover, moment by moment.
    pub(crate) timeline: Vec<Moment>,
    pub(crate) random: Option<Sequences>,
    pub(crate) idle: Option<Quiet>,
    /// How often it was looked who has the address, and how often somebody said so.
    pub(crate) looks: usize,
    pub(crate) took_s: u64,
}

impl Profile {
    /// Nothing was done yet.
    pub(crate) fn new(timers: Timers) -> Self {
        let (rows, timeline) = (Vec::new(), Vec::new());
        Self { timers, rows, timeline, random: None, idle: None, looks: 0, took_s: 0 }
    }

    /// What it took so far.
    pub(crate) fn took(&mut self, looks: usize, time: Duration) {
        self.looks = looks;
        self.took_s = time.as_secs();
    }

    /// Every promise that was not kept.
    pub(crate) fn broken(&self) -> Vec<String> {
        let mut all = Vec::new();
        for row in &self.rows {
            all.extend(row.broken.iter().map(|b| format!("{}, {} timers: {b}", row.name, self.timers.word())));
        }
        all.extend(self.random.iter().flat_map(Sequences::broken));
        all.extend(self.idle.iter().flat_map(Quiet::broken));
        all
    }
}

impl Report {
    /// Every promise that was not kept.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.profiles.iter().flat_map(Profile::broken).collect()
    }

    /// Faults that were asked for and not tried.
    pub(crate) fn not_run(&self) -> usize {
        self.profiles.iter().flat_map(|p| &p.rows).filter(|r| r.rounds.is_empty() || r.not_run.is_some()).count()
    }

    /// For programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        let mut all = serde_json::json!(self);
        all["broken_promises"] = self.broken().into();
        all
    }

    /// For people at a terminal.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for profile in &self.profiles {
            let _ = writeln!(out, "\n{} timers, {} s", profile.timers.word(), profile.took_s);
            aligned(&mut out, &HEAD, profile.rows.iter().map(cells));
            for row in &profile.rows {
                if let Some(why) = &row.not_run {
                    let _ = writeln!(out, "not run: {}: {why}", row.name);
                }
            }
            for line in profile.random.iter().map(Sequences::line).chain(profile.idle.iter().map(Quiet::line)) {
                let _ = writeln!(out, "{line}");
            }
            let _ = writeln!(out, "{} looks at who has the address", profile.looks);
        }
        if !self.peers.is_empty() {
            let _ = writeln!(out, "\nkeepalived + nginx on the same machines");
            aligned(&mut out, &Peer::HEAD, self.peers.iter().flat_map(Peer::cells));
        }
        if let Some(why) = &self.cut_short {
            let _ = writeln!(out, "\ncut short: {why}");
        }
        out
    }

    /// For the documentation; `picture` is where its timeline lies.
    pub(crate) fn markdown(&self, picture: Option<&str>) -> String {
        let mut out = format!(
            "# The failover drill\n\n`cargo drill {}` wrote this page; nothing in it is typed by hand. It takes root and no container engine: two proxies, a witness, a gateway, backends and a \
             client are network namespaces on two bridges (clients' Ethernet and control link), with the real `tandemd`, certificates \
             and all, and the address on a real interface.\n\n\
             {} build of tandemd; {} cores, shared by all nodes, clients and backends; each node's disk is in memory. Outside, a new \
             connection is opened through the address every 5 ms (connect, upgrade, one echo), {HELD} sessions echo each 100 ms, and a \
             change of the config is made after the other. Both kernels are asked every 5 ms whether they have the address, and the \
             Ethernet is asked by ARP who has it.\n\n\
             *out*: longest time without an answered new connection, milliseconds. *broken*: sessions of {HELD} that broke, at most. *back*: \
             until the last of them was held again; a session on a silent proxy is missed by its client after 2 s. *changes*: longest \
             time without an acknowledged change. *two*: for how long two proxies had the address, by their kernels / by ARP.\n",
            self.line, self.build, self.cores
        );
        if let Some(why) = &self.cut_short {
            let _ = writeln!(out, "\n**Cut short, so not all that was asked for is here**: {why}");
        }
        for profile in &self.profiles {
            let word = profile.timers.word();
            let _ = writeln!(out, "\n## {}{} timers\n", word[..1].to_uppercase(), &word[1..]);
            table(&mut out, &HEAD, profile.rows.iter().map(cells));
            let looks = profile.looks;
            let _ = writeln!(out, "\n{looks} looks at who has the address, in {} s.", profile.took_s);
            for line in profile.random.iter().map(Sequences::line).chain(profile.idle.iter().map(Quiet::line)) {
                let _ = writeln!(out, "\n{line}.");
            }
        }
        let broken = self.broken();
        if !broken.is_empty() {
            out.push_str("\n## Promises that were not kept\n\n");
            for line in broken {
                let _ = writeln!(out, "- {line}");
            }
        }
        if !self.peers.is_empty() {
            out.push_str("\n## keepalived + nginx on the same machines\n\n");
            out.push_str(Peer::ABOUT);
            table(&mut out, &Peer::HEAD, self.peers.iter().flat_map(Peer::cells));
        }
        if let Some(profile) = self.profiles.iter().find(|p| !p.timeline.is_empty()) {
            let _ = writeln!(
                out,
                "\n## One failover, moment by moment\n\nThe holder is killed; {} timers.\n",
                profile.timers.word()
            );
            if let Some(picture) = picture {
                let _ = writeln!(out, "![timeline of a failover]({picture})\n");
            }
            table(&mut out, &["ms", "what", "known from"], profile.timeline.iter().map(Moment::cells));
        }
        out.push_str("\n## What is promised\n\n");
        if let Some(profile) = self.profiles.first() {
            let promised = |row: &Row| {
                let two = if row.limits.two == 0 { "never".to_owned() } else { format!("≤ {} ms", row.limits.two) };
                vec![row.name.to_owned(), row.expects.to_owned(), format!("< {} ms", row.limits.out_max), two]
            };
            table(
                &mut out,
                &["fault", "what happens, and what is to come of it", "out", "two holders"],
                profile.rows.iter().map(promised),
            );
        }
        out
    }
}

const HEAD: [&str; 10] = ["fault", "runs", "out p50", "p90", "max", "broken", "back", "changes", "two", "promise"];

fn cells(row: &Row) -> Vec<String> {
    let out = row.each(|f| f.out_ms);
    let never = row.rounds.iter().any(|r| r.broke.for_good);
    let at = |percent| if out.is_empty() { "-".to_owned() } else { percentile(&out, percent).to_string() };
    let worst = |of: fn(&Figures) -> u64| row.each(of).last().map_or("-".to_owned(), ToString::to_string);
    let broken = row.rounds.iter().map(|r| r.broke.broken).max();
    let back = row.rounds.iter().filter_map(|r| r.broke.back_ms).max();
    let (had, answered) = row.two();
    let dash = |n: Option<String>| n.unwrap_or_else(|| "-".to_owned());
    vec![
        row.name.to_owned(),
        row.rounds.len().to_string(),
        at(50),
        at(90),
        if never { format!("{}, until mended", at(100)) } else { at(100) },
        dash(broken.map(|n| n.to_string())),
        dash(back.map(|n| n.to_string())),
        worst(|f| f.changes_ms),
        if row.rounds.is_empty() { "-".to_owned() } else { format!("{had} / {answered}") },
        row.verdict().to_owned(),
    ]
}

fn aligned(out: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let mut lines = vec![head.iter().map(ToString::to_string).collect::<Vec<_>>()];
    lines.extend(rows);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for line in &lines {
        let _ = write!(out, "{:<width$}", line[0], width = widths[0]);
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            let _ = write!(out, "  {cell:>width$}");
        }
        out.push('\n');
    }
}

fn table(out: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let _ = writeln!(out, "| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
}
