//! The sentences that progress messages and results carry: about a rollout the API's own, and how any text becomes a sentence.

pub(in crate::mcp) use crate::api::view::{between, line, next, summary};

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
