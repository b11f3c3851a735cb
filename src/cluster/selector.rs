//! Kubernetes label selectors from text: equality-based and set-based, as `kubectl -l` takes them.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use kube::core::{Expression, SelectorExt};
use serde_json::Value;

/// A parsed label selector. An empty text selects everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Selector(Vec<Expression>);

impl Selector {
    /// Whether all requirements hold for `labels`. A label that is absent satisfies `!=` and `notin`, as in Kubernetes.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether all requirements hold for the labels of `object`.
    #[must_use]
    pub fn matches_object(&self, object: &Value) -> bool {
        let labels = object["metadata"]["labels"].as_object();
        let labels = labels
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect();
        self.matches(&labels)
    }
}

impl FromStr for Selector {
    type Err = String;

    /// # Errors
    /// Which requirement cannot be read, why, and what one looks like.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self(Vec::new()));
        }
        split(text)?
            .into_iter()
            .map(requirement)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// The requirements: between commas that are in no parentheses.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let mut parts = Vec::new();
    let mut open = false;
    let mut start = 0;
    for (at, character) in text.char_indices() {
        match character {
            '(' if open => {
                return Err(format!("{text:?} has a parenthesis inside a parenthesis"));
            }
            '(' => open = true,
            ')' if !open => {
                return Err(format!("{text:?} closes a parenthesis that was not opened"));
            }
            ')' => open = false,
            ',' if !open => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if open {
        return Err(format!("{text:?} does not close its parenthesis"));
    }
    parts.push(text[start..].trim());
    Ok(parts)
}

fn requirement(text: &str) -> Result<Expression, String> {
    if text.is_empty() {
        return Err("there is nothing before or after a comma".to_owned());
    }
    if let Some(name) = text.strip_prefix('!') {
        return Ok(Expression::DoesNotExist(key(name.trim(), text)?));
    }
    if let Some((name, given)) = text.split_once("!=") {
        return Ok(Expression::NotEqual(key(name, text)?, value(given, text)?));
    }
    if let Some((name, given)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Expression::Equal(key(name, text)?, value(given, text)?));
    }
    if let Some((head, list)) = text.split_once('(') {
        let list = list.strip_suffix(')').ok_or_else(|| {
            format!("{text:?} goes on after its parenthesis, put a comma between requirements")
        })?;
        let values: BTreeSet<String> = list
            .split(',')
            .map(|given| value(given, text))
            .collect::<Result<_, _>>()?;
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(name), Some("in"), None) => Ok(Expression::In(key(name, text)?, values)),
            (Some(name), Some("notin"), None) => Ok(Expression::NotIn(key(name, text)?, values)),
            _ => Err(format!(
                "{text:?} is not understood, write: key in (a,b) or key notin (a,b)"
            )),
        };
    }
    Ok(Expression::Exists(key(text, text)?))
}

fn key(name: &str, of: &str) -> Result<String, String> {
    let name = name.trim();
    if !is_key(name) {
        return Err(format!(
            "{name:?} in {of:?} is no label key, write for example: env=production"
        ));
    }
    Ok(name.to_owned())
}

/// `[prefix/]name`, the name of at most 63 characters, the prefix a DNS subdomain.
pub(crate) fn is_key(name: &str) -> bool {
    let (prefix, short) = name
        .split_once('/')
        .map_or((None, name), |(prefix, short)| (Some(prefix), short));
    let prefix_fits = prefix.is_none_or(|prefix| {
        (1..=253).contains(&prefix.len())
            && prefix.split('.').all(|part| {
                fits(part, |c| {
                    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
                })
            })
    });
    !short.is_empty() && prefix_fits && is_label_text(short)
}

/// Empty, or at most 63 letters, digits, `-`, `_` and `.` with a letter or digit at both ends.
pub(crate) fn is_value(text: &str) -> bool {
    text.is_empty() || is_label_text(text)
}

fn value(given: &str, of: &str) -> Result<String, String> {
    let given = given.trim();
    if !is_value(given) {
        return Err(format!(
            "{given:?} in {of:?} is no label value: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"
        ));
    }
    Ok(given.to_owned())
}

fn is_label_text(text: &str) -> bool {
    text.len() <= 63
        && fits(text, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
        })
}

/// Not empty, all of `inner`, a letter or digit at both ends.
fn fits(text: &str, inner: impl Fn(char) -> bool) -> bool {
    text.chars().all(inner)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_as_kubectl_does() {
        let labels = BTreeMap::from(
            [
                ("env", "production"),
                ("region", "kr"),
                ("topology.kubernetes.io/zone", "a"),
                ("empty", ""),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let table = [
            ("", true),
            ("  ", true),
            ("env=production", true),
            ("env==production", true),
            ("env = production , region = kr", true),
            ("env=staging", false),
            ("env!=staging", true),
            ("env!=production", false),
            ("absent!=x", true),
            ("env", true),
            ("absent", false),
            ("!env", false),
            ("! absent", true),
            ("region in (kr,jp)", true),
            ("region in ( jp )", false),
            ("region notin (jp,us)", true),
            ("absent notin (a)", true),
            ("absent in (a)", false),
            (
                "topology.kubernetes.io/zone=a,region in (kr,jp),!absent",
                true,
            ),
            ("empty=", true),
            ("env in (production),region in (jp)", false),
        ];
        for (text, expected) in table {
            let selector: Selector = text.parse().unwrap();
            assert_eq!(selector.matches(&labels), expected, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let table = [
            (
                "env=production,",
                "there is nothing before or after a comma",
            ),
            (
                "=x",
                "\"\" in \"=x\" is no label key, write for example: env=production",
            ),
            (
                "env production",
                "\"env production\" in \"env production\" is no label key, write for example: env=production",
            ),
            (
                "env=a b",
                "\"a b\" in \"env=a b\" is no label value: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends",
            ),
            (
                "env in (a,b",
                "\"env in (a,b\" does not close its parenthesis",
            ),
            (
                "env in a)",
                "\"env in a)\" closes a parenthesis that was not opened",
            ),
            (
                "env within (a)",
                "\"env within (a)\" is not understood, write: key in (a,b) or key notin (a,b)",
            ),
            (
                "env in (a) x",
                "\"env in (a) x\" goes on after its parenthesis, put a comma between requirements",
            ),
            (
                "a/b/c=x",
                "\"a/b/c\" in \"a/b/c=x\" is no label key, write for example: env=production",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Selector>().unwrap_err(), expected, "{text}");
        }
    }
}
