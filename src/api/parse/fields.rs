//! Reads fields of a Canary by path, and collects what is wrong with them.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::Refusal;

/// A Canary being read.
pub(super) struct Fields<'a> {
    pub(super) canary: &'a Value,
    refusals: Vec<Refusal>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(canary: &'a Value) -> Self {
        Self {
            canary,
            refusals: Vec::new(),
        }
    }

    /// The plan, if nothing was refused.
    pub(super) fn finish<T>(self, plan: T) -> Result<T, Vec<Refusal>> {
        if self.refusals.is_empty() {
            Ok(plan)
        } else {
            Err(self.refusals)
        }
    }

    pub(super) fn refuse(&mut self, path: &str, reason: impl Into<String>, fix: impl Into<String>) {
        self.refusals.push(Refusal::new(path, reason, fix));
    }

    /// The value at a path like `spec.analysis.metrics[0].name`; null is nothing, as in Kubernetes.
    pub(super) fn at(&self, path: &str) -> Option<&'a Value> {
        let pointer = path.replace('[', ".").replace(']', "").replace('.', "/");
        self.canary
            .pointer(&format!("/{pointer}"))
            .filter(|value| !value.is_null())
    }

    /// A string; an empty one is nothing, as in Flagger.
    pub(super) fn string(&mut self, path: &str) -> Option<String> {
        let value = self.at(path)?;
        let text = value.as_str();
        if text.is_none() {
            self.wrong_type(path, "a string", value);
        }
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// A required DNS name of at most `longest` characters.
    pub(super) fn name(&mut self, path: &str, longest: usize) -> String {
        let Some(name) = self.string(path) else {
            self.refuse(path, "the name is missing", "give it");
            return String::new();
        };
        self.check_name(path, &name, longest);
        name
    }

    pub(super) fn check_name(&mut self, path: &str, name: &str, longest: usize) {
        let dns = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        let edge = |c: char| c == '-' || c == '.';
        if !name.chars().all(dns) || name.starts_with(edge) || name.ends_with(edge) {
            self.refuse(
                path,
                format!("{name:?} is not a name in Kubernetes"),
                "use lower-case letters, digits and dashes",
            );
        } else if name.len() > longest {
            self.refuse(
                path,
                format!("{name:?} leaves no room for the suffix -primary"),
                format!("use a name of at most {longest} characters"),
            );
        }
    }

    /// A boolean, false by default.
    pub(super) fn boolean(&mut self, path: &str) -> bool {
        match self.at(path) {
            None => false,
            Some(Value::Bool(value)) => *value,
            Some(other) => {
                self.wrong_type(path, "true or false", other);
                false
            }
        }
    }

    /// An integer or a default.
    pub(super) fn integer(&mut self, path: &str, default: i64, range: RangeInclusive<i64>) -> i64 {
        self.optional_integer(path, range).unwrap_or(default)
    }

    /// An integer within bounds.
    pub(super) fn optional_integer(
        &mut self,
        path: &str,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        let value = self.at(path)?;
        let Some(number) = whole(value) else {
            self.wrong_type(path, "a whole number", value);
            return None;
        };
        if range.contains(&number) {
            return Some(number);
        }
        self.refuse(
            path,
            format!(
                "{number} is not within {} to {}",
                range.start(),
                range.end()
            ),
            "choose a value within these bounds",
        );
        None
    }

    /// A number.
    pub(super) fn number(&mut self, path: &str) -> Option<f64> {
        let value = self.at(path)?;
        let number = value.as_f64();
        if number.is_none() {
            self.wrong_type(path, "a number", value);
        }
        number
    }

    /// A list of strings.
    pub(super) fn strings(&mut self, path: &str) -> Vec<String> {
        let mut all = Vec::new();
        for i in 0..self.len(path) {
            all.extend(self.string(&format!("{path}[{i}]")));
        }
        all
    }

    /// A map from string to string, in the order of its keys.
    pub(super) fn map(&mut self, path: &str) -> Vec<(String, String)> {
        let map = match self.at(path) {
            None => return Vec::new(),
            Some(Value::Object(map)) => map,
            Some(other) => {
                self.wrong_type(path, "a map", other);
                return Vec::new();
            }
        };
        let mut all = Vec::new();
        for (key, value) in map {
            if let Some(text) = value.as_str() {
                all.push((key.clone(), text.to_owned()));
            } else {
                self.wrong_type(&format!("{path}.{key}"), "a string", value);
            }
        }
        all.sort();
        all
    }

    /// How many items the list at a path has; none for anything but a list.
    pub(super) fn len(&mut self, path: &str) -> usize {
        match self.at(path) {
            None => 0,
            Some(Value::Array(items)) => items.len(),
            Some(other) => {
                self.wrong_type(path, "a list", other);
                0
            }
        }
    }

    /// Refuses a field that is there and asks for something (an empty list or map asks for nothing).
    pub(super) fn not_yet(&mut self, path: &str, what: &str) {
        let asks = self.at(path).is_some_and(|value| match value {
            Value::Array(items) => !items.is_empty(),
            Value::Object(map) => !map.is_empty(),
            Value::String(text) => !text.is_empty(),
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::Bool(value) => *value,
            Value::Null => false,
        });
        if asks {
            self.refuse(
                path,
                format!("{what} is not carried out yet"),
                "take the field out",
            );
        }
    }

    /// Refuses a switch that is on.
    pub(super) fn not_yet_if_true(&mut self, path: &str, what: &str) {
        if self.boolean(path) {
            self.refuse(
                path,
                format!("{what} is not carried out yet"),
                "take the field out, or set it to false",
            );
        }
    }

    fn wrong_type(&mut self, path: &str, wanted: &str, got: &Value) {
        let kind = match got {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "a map",
        };
        self.refuse(
            path,
            format!("{kind} stands where {wanted} belongs"),
            format!("write {wanted}"),
        );
    }
}

/// A whole number, also when it is written as `5.0`.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let number = value.as_f64()?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "checked to be whole and small"
        )]
        (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64)
    })
}
