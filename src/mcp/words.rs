//! The sentences that progress messages and results carry: about a rollout the API's own, and how any text becomes a sentence.

use crate::api::view::RolloutView;
pub(in crate::mcp) use crate::api::view::{between, next, summary};

/// One rollout in one line with what it waits for, as a progress message says it: a sentence without its full stop.
pub(in crate::mcp) fn told(view: &RolloutView) -> String {
    summary(view).trim_end_matches('.').to_owned()
}

/// The rollout in one line, and what an engine in dry-run leaves out of it.
pub(in crate::mcp) fn whole(view: &RolloutView) -> String {
    let summary = summary(view);
    match &view.dry_run {
        Some(dry_run) => format!("{summary} Note: {}", sentence(dry_run)),
        None => summary,
    }
}

/// `text` as a sentence: without white space around it, and with one full stop.
pub(in crate::mcp) fn sentence(text: &str) -> String {
    format!("{}.", text.trim().trim_end_matches(['.', ':']))
}

#[cfg(test)]
mod tests {
    use super::sentence;

    #[test]
    fn a_sentence_has_one_full_stop() {
        for text in ["it runs", "it runs.", " it runs.. ", "it runs:"] {
            assert_eq!(sentence(text), "it runs.");
        }
    }
}
