//! The forms in which objects are answered: plain, as a table for kubectl, or their metadata alone.

use serde_json::{Value, json};

use super::{kinds::Served, list::Page, route::Query, status::Status, table};
use crate::api::objects::ObjectExt;
use crate::decide::facts::Moment;

/// What the `Accept` header asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    /// `as=Table`
    Table,
    /// `as=PartialObjectMetadata`, `as=PartialObjectMetadataList`
    Metadata,
}

impl Form {
    /// The first form of the header that is offered; plain JSON when there is no header.
    pub(super) fn accepted(accept: &str) -> Result<Self, Status> {
        if accept.is_empty() {
            return Ok(Self::Plain);
        }
        accept
            .split(',')
            .find_map(|entry| {
                let mut parts = entry.split(';').map(str::trim);
                let media = parts.next().unwrap_or_default();
                let (mut form, mut version, mut group) = ("", "", "");
                for part in parts {
                    match part.split_once('=') {
                        Some(("as", value)) => form = value,
                        Some(("v", value)) => version = value,
                        Some(("g", value)) => group = value,
                        _ => {}
                    }
                }
                match (media, form, version, group) {
                    ("application/json", "Table", "v1", "meta.k8s.io") => Some(Self::Table),
                    (
                        "application/json",
                        "PartialObjectMetadata" | "PartialObjectMetadataList",
                        "v1",
                        "meta.k8s.io",
                    ) => Some(Self::Metadata),
                    ("application/json" | "*/*" | "application/*", "", _, _) => Some(Self::Plain),
                    _ => None,
                }
            })
            .ok_or_else(Status::not_acceptable)
    }
}

/// Puts objects into their form.
#[derive(Debug, Clone)]
pub(super) struct Presenter {
    /// The cluster's clock: ages are virtual time.
    pub(super) now: Moment,
    /// A table with its column definitions.
    pub(super) headers: bool,
    /// What a table's rows carry beside their cells: `Metadata` (default), `Object` or `None`.
    include: String,
}

impl Presenter {
    pub(super) fn new(now: Moment, query: &Query) -> Self {
        Self {
            now,
            headers: true,
            include: query.get("includeObject").to_owned(),
        }
    }

    /// One object.
    pub(super) fn one(&self, form: Form, served: &Served, object: &Value) -> Value {
        match form {
            Form::Plain => object.clone(),
            Form::Metadata => metadata_only(object),
            Form::Table => {
                let metadata = json!({"resourceVersion": object.resource_version()});
                self.table(served, std::iter::once(object), &metadata)
            }
        }
    }

    /// One page of a list.
    pub(super) fn list(&self, form: Form, served: &Served, page: &Page) -> Value {
        let mut metadata = json!({"resourceVersion": page.revision.to_string()});
        // Those of custom resources have it always.
        if page.next.is_some() || served.custom.is_some() && form == Form::Plain {
            metadata["continue"] = json!(page.next.clone().unwrap_or_default());
        }
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
        let items = page.items.iter().map(|object| &**object);
        match form {
            Form::Table => self.table(served, items, &metadata),
            Form::Metadata => json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": items.map(metadata_only).collect::<Vec<_>>(),
            }),
            Form::Plain => json!({
                "kind": format!("{}List", served.kind),
                "apiVersion": served.api_version(),
                "metadata": metadata,
                "items": items.map(|object| item(served, object)).collect::<Vec<_>>(),
            }),
        }
    }

    fn table<'a>(
        &self,
        served: &Served,
        objects: impl Iterator<Item = &'a Value>,
        metadata: &Value,
    ) -> Value {
        let columns = table::columns(served);
        let rows: Vec<Value> = objects
            .map(|object| {
                let cells: Vec<Value> = columns
                    .iter()
                    .map(|column| column.cell(object, self.now))
                    .collect();
                let mut row = json!({"cells": cells});
                match self.include.as_str() {
                    "None" => row["object"] = Value::Null,
                    "Object" => row["object"] = object.clone(),
                    _ => row["object"] = metadata_only(object),
                }
                row
            })
            .collect();
        let definitions: Value = if self.headers {
            columns.iter().map(table::Column::definition).collect()
        } else {
            Value::Null
        };
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": definitions,
            "rows": rows,
        })
    }
}

/// The items of a list of a built-in kind do not repeat the kind.
fn item(served: &Served, object: &Value) -> Value {
    let mut object = object.clone();
    if served.custom.is_none()
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}

fn metadata_only(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_offered_form_wins() {
        for (accept, form) in [
            ("", Form::Plain),
            ("application/json", Form::Plain),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Form::Table,
            ),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Form::Metadata,
            ),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json",
                Form::Plain,
            ),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Form::Plain,
            ),
            ("text/html, */*;q=0.5", Form::Plain),
        ] {
            assert_eq!(Form::accepted(accept), Ok(form), "{accept}");
        }
    }
}
