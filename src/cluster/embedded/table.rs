//! The columns of a table: what `kubectl get` prints.

use serde_json::{Value, json};

use super::{columns, kinds::Served};
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
    Of(fn(&Value, Moment) -> Value),
    /// A custom resource's `jsonPath`.
    Path(Vec<Segment>),
}

impl Column {
    /// A column of a built-in kind.
    pub(super) fn of(
        name: &str,
        kind: &str,
        priority: i64,
        read: fn(&Value, Moment) -> Value,
    ) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            format: if name == "Name" { "name" } else { "" }.to_owned(),
            description: String::new(),
            priority,
            read: Read::Of(read),
        }
    }

    fn custom(column: &Value) -> Self {
        let text = |key: &str| column[key].as_str().unwrap_or_default().to_owned();
        Self {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description: match text("description") {
                none if none.is_empty() => format!(
                    "Custom resource definition column (in JSONPath format): {}",
                    text("jsonPath")
                ),
                some => some,
            },
            priority: column["priority"].as_i64().unwrap_or(0),
            read: Read::Path(parse_path(&text("jsonPath"))),
        }
    }

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

    /// The cell of one object; `now` is the cluster's clock.
    pub(super) fn cell(&self, object: &Value, now: Moment) -> Value {
        match &self.read {
            Read::Of(read) => read(object, now),
            Read::Path(path) => {
                let found = find(path, object);
                match (self.kind.as_str(), found) {
                    (_, None) => Value::Null,
                    ("date", Some(at)) => json!(age(at.as_str(), now)),
                    ("string", Some(Value::String(text))) => json!(text),
                    ("string", Some(other)) => json!(other.to_string()),
                    (_, Some(other)) => other.clone(),
                }
            }
        }
    }
}

/// The columns of a kind.
pub(super) fn columns(served: &Served) -> Vec<Column> {
    let mut all = Vec::new();
    // Of an event its name says least.
    if served.kind != "Event" || served.custom.is_some() {
        all.push(Column::of("Name", "string", 0, |o, _| json!(o.name())));
    }
    match &served.custom {
        Some(custom) if !custom.columns.is_empty() => {
            all.extend(custom.columns.iter().map(Column::custom));
        }
        Some(_) => all.push(Column::of("Age", "date", 0, created)),
        None => all.extend(columns::of(served)),
    }
    all
}

/// Age of the object itself.
pub(super) fn created(object: &Value, now: Moment) -> Value {
    json!(age(object.str_at("/metadata/creationTimestamp"), now))
}

/// The time since `at`, as kubectl prints it.
pub(super) fn age(at: Option<&str>, now: Moment) -> String {
    let Some(at) = at.and_then(|t| t.parse::<jiff::Timestamp>().ok()) else {
        return "<unknown>".to_owned();
    };
    duration(now.since(Moment(at.as_millisecond())).div_euclid(1000))
}

/// Kubernetes' `HumanDuration` of whole seconds: two units at most, and fewer the longer it is.
fn duration(seconds: i64) -> String {
    let two = |big: i64, unit: &str, small: i64, part: &str| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{part}")
        }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match seconds {
        ..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        _ if seconds < 120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => two(days, "d", hours % 24, "h"),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => two(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

/// One step of a `jsonPath`.
#[derive(Debug, PartialEq)]
enum Segment {
    Key(String),
    Index(usize),
    /// `[?(@.key=="value")]`
    Where(String, String),
}

/// The simple paths that printer columns may have.
fn parse_path(path: &str) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut key = String::new();
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => key.extend(letters.next()),
            '.' => flush(&mut key, &mut segments),
            '[' => {
                flush(&mut key, &mut segments);
                let inside: String = letters.by_ref().take_while(|c| *c != ']').collect();
                segments.extend(bracket(&inside));
            }
            other => key.push(other),
        }
    }
    flush(&mut key, &mut segments);
    segments
}

fn flush(key: &mut String, segments: &mut Vec<Segment>) {
    if !key.is_empty() {
        segments.push(Segment::Key(std::mem::take(key)));
    }
}

fn bracket(inside: &str) -> Option<Segment> {
    if let Ok(index) = inside.parse() {
        return Some(Segment::Index(index));
    }
    let quoted = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    if let Some(condition) = inside.strip_prefix("?(@.") {
        let (key, value) = condition.strip_suffix(')')?.split_once("==")?;
        return Some(Segment::Where(key.trim().to_owned(), quoted(value)));
    }
    Some(Segment::Key(quoted(inside)))
}

fn find<'a>(path: &[Segment], object: &'a Value) -> Option<&'a Value> {
    let mut at = object;
    for segment in path {
        at = match segment {
            Segment::Key(key) => at.get(key)?,
            Segment::Index(index) => at.get(index)?,
            Segment::Where(key, value) => at
                .as_array()?
                .iter()
                .find(|item| item[key].as_str() == Some(value))?,
        };
    }
    Some(at).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::embedded::kinds::Catalog;

    /// 2026-11-21T00:10:00Z
    const NOW: Moment = Moment(1_795_219_800_000);

    fn cells(group: &str, plural: &str, object: &Value) -> Vec<Value> {
        let served = Catalog::builtin().find(group, "v1", plural).unwrap();
        columns(&served)
            .iter()
            .map(|c| c.cell(object, NOW))
            .collect()
    }

    #[test]
    fn durations_are_kubectls() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (28_800, "8h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn printer_columns_follow_their_paths() {
        let object = json!({"status": {"conditions": [{"type": "A", "status": "False"}, {"type": "Ready", "status": "True"}],
            "list": ["x", "y"], "n": 3}, "metadata": {"annotations": {"a.b/c": "d"}}});
        for (path, expected) in [
            (".status.n", json!(3)),
            (
                ".status.conditions[?(@.type==\"Ready\")].status",
                json!("True"),
            ),
            (".status.conditions[?(@.type=='A')].status", json!("False")),
            (".status.list[1]", json!("y")),
            (".metadata.annotations.a\\.b/c", json!("d")),
            (".metadata.annotations['a.b/c']", json!("d")),
            (".status.none.deeper", Value::Null),
        ] {
            let found = find(&parse_path(path), &object)
                .cloned()
                .unwrap_or_default();
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn a_deployment_row() {
        let object = json!({"metadata": {"name": "a", "creationTimestamp": "2026-11-21T00:07:30Z"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "a"}}, "template": {"spec": {
                "containers": [{"name": "c", "image": "x:1"}, {"name": "d", "image": "y:2"}]}}},
            "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2}});
        assert_eq!(
            cells("apps", "deployments", &object),
            [
                json!("a"),
                json!("2/3"),
                json!(3),
                json!(2),
                json!("2m30s"),
                json!("c,d"),
                json!("x:1,y:2"),
                json!("app=a")
            ]
        );
    }

    #[test]
    fn a_pod_row_says_what_keeps_it() {
        let pod = |status: Value| {
            json!({"metadata": {"name": "p", "creationTimestamp": "2026-11-21T00:09:00Z"},
            "spec": {"nodeName": "n1", "containers": [{"name": "c"}]}, "status": status})
        };
        let running = pod(
            json!({"phase": "Running", "podIP": "10.1.0.1", "containerStatuses": [
            {"ready": true, "restartCount": 0, "state": {"running": {}}}]}),
        );
        assert_eq!(
            cells("", "pods", &running),
            [
                json!("p"),
                json!("1/1"),
                json!("Running"),
                json!("0"),
                json!("60s"),
                json!("10.1.0.1"),
                json!("n1"),
                json!("<none>"),
                json!("<none>")
            ]
        );
        let crashing = pod(
            json!({"phase": "Running", "containerStatuses": [{"ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"finishedAt": "2026-11-21T00:09:50Z"}}}]}),
        );
        let row = cells("", "pods", &crashing);
        assert_eq!(
            row[1..4],
            [
                json!("0/1"),
                json!("CrashLoopBackOff"),
                json!("3 (10s ago)")
            ]
        );
        let mut going = running;
        going["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:10:30Z");
        assert_eq!(cells("", "pods", &going)[2], "Terminating");
    }

    #[test]
    fn a_service_row() {
        let object = json!({"metadata": {"name": "s", "creationTimestamp": "2026-11-21T00:00:00Z"},
            "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.1", "selector": {"app": "a"},
                "ports": [{"port": 80, "protocol": "TCP"}, {"port": 90, "nodePort": 30000, "protocol": "UDP"}]}});
        assert_eq!(
            cells("", "services", &object),
            [
                json!("s"),
                json!("ClusterIP"),
                json!("10.96.0.1"),
                json!("<none>"),
                json!("80/TCP,90:30000/UDP"),
                json!("10m"),
                json!("app=a")
            ]
        );
    }

    #[test]
    fn an_event_row_in_both_groups() {
        let core = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Canary", "name": "a"}, "reason": "Synced",
            "message": " Advance\n", "type": "Normal", "lastTimestamp": "2026-11-21T00:09:58Z", "count": 2,
            "source": {"component": "flagger"}});
        assert_eq!(
            cells("", "events", &core),
            [
                json!("2s"),
                json!("Normal"),
                json!("Synced"),
                json!("canary/a"),
                json!(""),
                json!("flagger"),
                json!("Advance"),
                json!("<unknown>"),
                json!(2),
                json!("e")
            ]
        );
        let new = json!({"metadata": {"name": "e"}, "regarding": {"kind": "Canary", "name": "a"}, "reason": "Synced",
            "note": "Advance", "type": "Normal", "eventTime": "2026-11-21T00:09:57.000000Z"});
        assert_eq!(
            cells("events.k8s.io", "events", &new)[..7],
            [
                json!("3s"),
                json!("Normal"),
                json!("Synced"),
                json!("canary/a"),
                json!(""),
                json!(""),
                json!("Advance")
            ]
        );
    }
}
