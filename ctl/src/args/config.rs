//! What can be said of the config as a whole.

use std::path::PathBuf;

use clap::{ArgGroup, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Print it as TOML, or with --json as JSON.
    #[command(after_help = "Example, as it was: tandemctl config show --revision 41")]
    Show {
        /// As it was at this revision; see: config history.
        #[arg(long, value_name = "N")]
        revision: Option<u64>,
    },
    /// Write it to a file that `config apply` reads.
    #[command(after_help = "Example: tandemctl config export tandem.toml")]
    Export {
        /// Made anew, or replaced whole.
        file: PathBuf,
        /// As it was at this revision.
        #[arg(long, value_name = "N")]
        revision: Option<u64>,
    },
    /// Say whether a file could be applied. Asks no node; ports and revisions are looked at by: config apply --dry-run.
    #[command(after_help = "Example: tandemctl config check tandem.toml")]
    Check {
        /// A TOML document as `config show` prints it; - for stdin.
        file: PathBuf,
    },
    /// Show what a file would change, or what a revision changed.
    #[command(
        group(ArgGroup::new("what").args(["file", "revision"]).required(true)),
        after_help = "Examples:\n  tandemctl config diff tandem.toml\n  tandemctl config diff --revision 41"
    )]
    Diff {
        /// A TOML document as `config show` prints it; - for stdin.
        file: Option<PathBuf>,
        /// Against the one before it.
        #[arg(long, value_name = "N")]
        revision: Option<u64>,
    },
    /// Make the cluster's config what this file says; what it leaves out is removed.
    #[command(after_help = "Examples:\n  tandemctl config apply tandem.toml --dry-run\n  \
        tandemctl config apply tandem.toml --expect-revision 12 --reason 'new chat servers'")]
    Apply {
        /// A TOML document as `config show` prints it; - for stdin.
        file: PathBuf,
    },
    /// Open it in $VISUAL or $EDITOR, and apply what is saved. Refused if someone else changed it meanwhile.
    #[command(after_help = "Example: EDITOR=nano tandemctl config edit --reason 'new chat servers'")]
    Edit,
    /// Who changed what, when, from where and why; newest first.
    #[command(after_help = "Who: what tandemctl said, unproven unless a certificate says it.\n\
        Example: tandemctl config history --limit 5")]
    History {
        /// So many at most. 0: all that are kept, the last 1000.
        #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
        limit: u32,
        /// Only revisions before this one.
        #[arg(long, value_name = "N")]
        before: Option<u64>,
    },
    /// Make it again what it was at a revision; this makes a new revision. The last 100 are kept.
    #[command(after_help = "Examples:\n  tandemctl config rollback 41 --dry-run\n  \
        tandemctl config rollback 41 --reason 'chat 5 lost messages'")]
    Rollback {
        /// See: config history.
        #[arg(value_name = "REVISION")]
        revision: u64,
    },
    /// Print a line for each revision as it comes, none left out, until interrupted. With --json one document a line.
    #[command(after_help = "Example: tandemctl config watch --after 41 --json")]
    Watch {
        /// Begin with the one after this. Default: with the next that is made.
        #[arg(long, value_name = "N")]
        after: Option<u64>,
    },
}
