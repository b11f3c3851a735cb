//! The sentences about a rollout that progress messages and results carry.

use crate::api::view::RolloutView;

/// One line: where the rollout is.
pub(in crate::mcp) fn line(view: &RolloutView) -> String {
    format!(
        "{} {}/{}: {}, {}% to canary, step {} of {}",
        view.cluster,
        view.namespace,
        view.name,
        view.phase.name(),
        view.weight.written,
        view.step.n,
        view.step.of
    )
}

/// One sentence that suffices by itself.
pub(in crate::mcp) fn summary(view: &RolloutView) -> String {
    line(view)
}

/// What to call now.
pub(in crate::mcp) fn next(view: &RolloutView) -> String {
    if view.phase.running() {
        format!(
            "call get_status with wait_seconds 50 and since {:?} for the next change, or rollback to end it",
            view.cursor
        )
    } else {
        "call start_canary to roll another image out".to_owned()
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
