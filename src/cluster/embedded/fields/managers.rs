//! Who owns which fields: `metadata.managedFields`, read and written.

use serde_json::{Value, json};

use super::set::FieldSet;

/// How a manager came to its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cluster::embedded) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// One entry: a manager and its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cluster::embedded) struct Manager {
    pub(in crate::cluster::embedded) name: String,
    pub(in crate::cluster::embedded) operation: Operation,
    pub(in crate::cluster::embedded) api_version: String,
    /// `status`, `scale`, or none for the object itself.
    pub(in crate::cluster::embedded) subresource: Option<String>,
    /// RFC 3339. None for one that never changed a value.
    pub(in crate::cluster::embedded) time: Option<String>,
    pub(in crate::cluster::embedded) fields: FieldSet,
}

/// How many entries of updates are kept; older ones are put together (Kubernetes' `DefaultMaxUpdateManagers`).
const MOST_UPDATES: usize = 10;
/// The manager of what was put together.
const ANCIENT: &str = "ancient-changes";

impl Manager {
    /// Is it the same manager? One that applies is the same in each version of the API.
    pub(in crate::cluster::embedded) fn is(&self, other: &Self) -> bool {
        self.name == other.name
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    fn parse(entry: &Value) -> Option<Self> {
        let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty());
        if text("fieldsType") != Some("FieldsV1") {
            return None;
        }
        Some(Self {
            name: text("manager").unwrap_or_default().to_owned(),
            operation: match text("operation")? {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            },
            api_version: text("apiVersion")?.to_owned(),
            subresource: text("subresource").map(str::to_owned),
            time: text("time").map(str::to_owned),
            fields: FieldSet::parse(&entry["fieldsV1"]),
        })
    }

    fn entry(&self) -> Value {
        let mut entry = json!({
            "operation": self.operation.name(),
            "apiVersion": self.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.fields(),
        });
        if !self.name.is_empty() {
            entry["manager"] = json!(self.name);
        }
        if let Some(time) = &self.time {
            entry["time"] = json!(time);
        }
        if let Some(subresource) = &self.subresource {
            entry["subresource"] = json!(subresource);
        }
        entry
    }

    /// As a conflict names it.
    pub(in crate::cluster::embedded) fn title(&self) -> String {
        let mut title = format!("{:?}", self.name);
        if let Some(subresource) = &self.subresource {
            title = format!("{title} with subresource {subresource:?}");
        }
        match self.operation {
            Operation::Apply => title,
            Operation::Update => format!("{title} using {}", self.api_version),
        }
    }
}

/// Reads the entries; none where one of them is not valid.
pub(in crate::cluster::embedded) fn parse(entries: &[Value]) -> Option<Vec<Manager>> {
    entries.iter().map(Manager::parse).collect()
}

/// Writes the entries, in the order of Kubernetes: those that apply first, then by time and name.
pub(in crate::cluster::embedded) fn entries(managers: &[Manager]) -> Vec<Value> {
    let mut managers: Vec<&Manager> = managers.iter().filter(|m| !m.fields.is_empty()).collect();
    managers.sort_by_key(|m| {
        (
            m.operation,
            &m.time,
            &m.name,
            &m.api_version,
            &m.subresource,
        )
    });
    managers.into_iter().map(Manager::entry).collect()
}

/// Are the entries the same but for their times?
pub(in crate::cluster::embedded) fn same_but_time(a: &[Value], b: &[Value]) -> bool {
    let timeless = |entry: &Value| {
        let mut entry = entry.clone();
        if let Some(fields) = entry.as_object_mut() {
            fields.remove("time");
        }
        entry
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| timeless(a) == timeless(b))
}

/// Puts the oldest entries of updates together, until there are few enough of them.
pub(in crate::cluster::embedded) fn cap(managers: &mut Vec<Manager>) {
    let mut updaters: Vec<Manager> = managers
        .iter()
        .filter(|m| m.operation == Operation::Update)
        .cloned()
        .collect();
    let mut count = updaters.len();
    updaters.sort_by(|a, b| (&a.time, &a.name).cmp(&(&b.time, &b.name)));
    let mut first: Vec<&Manager> = Vec::new();
    for manager in &updaters {
        if count <= MOST_UPDATES {
            return;
        }
        let Some(oldest) = first.iter().find(|f| f.api_version == manager.api_version) else {
            first.push(manager);
            continue;
        };
        let mut bucket = Manager {
            name: ANCIENT.to_owned(),
            operation: Operation::Update,
            api_version: manager.api_version.clone(),
            subresource: None,
            time: manager.time.clone(),
            fields: FieldSet::default(),
        };
        managers.retain(|m| {
            let joins = m.is(&bucket) || m.is(oldest) || m.is(manager);
            if joins {
                bucket.fields.extend(&m.fields);
            }
            !joins
        });
        managers.push(bucket);
        count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, time: &str, field: &str) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "v1", "time": time, "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {field: {}}}})
    }

    #[test]
    fn entries_come_in_the_order_of_kubernetes() {
        let given = [
            entry("z", "Update", "2026-11-21T00:00:01Z", "f:a"),
            entry("b", "Update", "2026-11-21T00:00:02Z", "f:b"),
            entry("a", "Update", "2026-11-21T00:00:02Z", "f:c"),
            entry("y", "Apply", "2026-11-21T00:00:09Z", "f:d"),
        ];
        let written = entries(&parse(&given).unwrap());
        assert_eq!(
            written,
            [
                given[3].clone(),
                given[0].clone(),
                given[2].clone(),
                given[1].clone()
            ]
        );
        for wrong in [
            json!({"operation": "Other", "apiVersion": "v1", "fieldsType": "FieldsV1"}),
            json!({"operation": "Apply", "fieldsType": "FieldsV1"}),
            json!({"operation": "Apply", "apiVersion": "v1"}),
        ] {
            assert_eq!(parse(std::slice::from_ref(&wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn the_oldest_of_many_updates_become_one() {
        let given: Vec<Value> = (0..12)
            .map(|at| {
                let time = format!("2026-11-21T00:00:{at:02}Z");
                entry(
                    &format!("m{at:02}"),
                    "Update",
                    &time,
                    &format!("f:k{at:02}"),
                )
            })
            .collect();
        let mut managers = parse(&given).unwrap();
        cap(&mut managers);
        let written = entries(&managers);
        assert_eq!(written.len(), 10);
        assert_eq!(
            written[0],
            json!({"manager": "ancient-changes", "operation": "Update", "apiVersion": "v1", "time": "2026-11-21T00:00:02Z",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:k00": {}, "f:k01": {}, "f:k02": {}}}})
        );
        assert_eq!(written[1]["manager"], "m03");
    }

    #[test]
    fn conflicts_name_managers_so() {
        let mut one = entry("kubectl", "Update", "2026-11-21T00:00:01Z", "f:a");
        one["subresource"] = json!("scale");
        let two = entry("argocd", "Apply", "2026-11-21T00:00:01Z", "f:a");
        let titles: Vec<String> = parse(&[one, two])
            .unwrap()
            .iter()
            .map(Manager::title)
            .collect();
        assert_eq!(
            titles,
            [
                r#""kubectl" with subresource "scale" using v1"#,
                r#""argocd""#
            ]
        );
    }
}
