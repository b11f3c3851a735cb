//! The columns of a table.

use serde_json::{Value, json};

use super::kinds::Served;
use crate::{api::objects::ObjectExt, decide::facts::Moment};

/// One column.
pub(super) struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    /// 0: always shown; 1: with `-o wide`.
    priority: i64,
    read: Read,
}

/// How a cell is read.
enum Read {
    /// By a function of the object.
    Of(fn(&Value, Moment) -> Value),
}

impl Column {
    /// Its entry in `columnDefinitions`.
    pub(super) fn definition(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.kind,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }

    /// The cell of one object.
    pub(super) fn cell(&self, object: &Value, now: Moment) -> Value {
        match &self.read {
            Read::Of(read) => read(object, now),
        }
    }
}

/// The columns of a kind.
pub(super) fn columns(_served: &Served) -> Vec<Column> {
    vec![Column {
        name: "Name".to_owned(),
        kind: "string".to_owned(),
        format: "name".to_owned(),
        description: "Name must be unique within a namespace.".to_owned(),
        priority: 0,
        read: Read::Of(|object, _| json!(object.name())),
    }]
}
