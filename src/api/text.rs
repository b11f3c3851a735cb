//! Text that comes from a cluster, made fit to be shown.

/// `text` on one line, without control and direction characters, of at most `longest` bytes; what is cut off is marked by `...`.
#[must_use]
pub fn clean(text: &str, longest: usize) -> String {
    let mut out = String::with_capacity(text.len().min(longest));
    let mut blank = true;
    for c in text.chars() {
        let c = if c.is_whitespace() { ' ' } else { c };
        if hidden(c) || (c == ' ' && blank) {
            continue;
        }
        blank = c == ' ';
        out.push(c);
    }
    let out = out.trim_end();
    if out.len() <= longest {
        return out.to_owned();
    }
    let mut cut = longest.saturating_sub(3);
    while !out.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}...", &out[..cut])
}

/// Characters that a terminal or a model may act on, and a person does not see.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
            | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_one_visible_line_of_bounded_length() {
        for (text, longest, clean_text) in [
            ("as it is", 100, "as it is"),
            (" two\n\tlines \r\n", 100, "two lines"),
            ("\u{1b}[31mred\u{1b}[0m\u{202e}", 100, "[31mred[0m"),
            ("0123456789", 10, "0123456789"),
            ("0123456789a", 10, "0123456..."),
            ("ééééé", 8, "éé..."),
        ] {
            assert_eq!(clean(text, longest), clean_text);
        }
    }
}
