//! What hundreds of clusters and a thousand Canaries cost, as a table in Markdown: `cargo bench --bench scale`.
//!
//! The clusters are embedded API servers in this process, on loopback; the engine is the binary itself, in a process of its own, so that
//! memory, CPU and sockets are the engine's alone. Time is real and the clocks of the clusters run at speed 1, so all of it takes some
//! fifteen minutes. Nothing is asserted here: what must hold is in `tests/`.
//!
//! `cargo bench --bench scale -- [STORY...] [--canaries N] [--clusters N] [--seconds N]`, where the stories are `idle`, `revisions` and
//! `rollouts` (one cluster with 1,000 Canaries), `clusters` (200 clusters with 5 each) and `hanging` (20 of them never answer).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    missing_docs
)]

mod many;
mod one;
mod process;
mod recorder;
mod site;
mod table;

use std::time::Duration;

/// What is to be measured.
pub(crate) struct Options {
    stories: Vec<String>,
    /// Canaries of the one cluster.
    pub(crate) canaries: usize,
    /// Clusters of the many.
    pub(crate) clusters: usize,
    /// How long an idle or busy time is looked at.
    pub(crate) window: Duration,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Self {
        let mut options = Self {
            stories: Vec::new(),
            canaries: 1_000,
            clusters: 200,
            window: Duration::from_secs(60),
        };
        while let Some(arg) = args.next() {
            let mut number = || {
                let number = args.next().and_then(|n| n.parse().ok());
                number.unwrap_or_else(|| panic!("{arg} needs a whole number"))
            };
            match arg.as_str() {
                "--canaries" => options.canaries = number(),
                "--clusters" => options.clusters = number(),
                "--seconds" => options.window = Duration::from_secs(number() as u64),
                // What cargo adds.
                "--bench" => {}
                story if STORIES.contains(&story) => options.stories.push(arg),
                other => panic!("{other} is none of {STORIES:?}"),
            }
        }
        options
    }

    /// Whether one of these is to be told; all are when none was named.
    pub(crate) fn tells(&self, stories: &[&str]) -> bool {
        self.stories.is_empty() || self.stories.iter().any(|s| stories.contains(&s.as_str()))
    }
}

const STORIES: [&str; 5] = ["idle", "revisions", "rollouts", "clusters", "hanging"];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    canary_mcp::cluster::registry::install_crypto();
    let options = Options::parse(std::env::args().skip(1));
    let mut table = table::Table::default();
    if options.tells(&["idle", "revisions", "rollouts"]) {
        one::measure(&options, &mut table).await;
    }
    if options.tells(&["clusters", "hanging"]) {
        many::measure(&options, &mut table).await;
    }
    print!("{table}");
}
