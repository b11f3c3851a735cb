//! What the triggers of a `ScaledObject` ask for, by the cluster's own metrics.

use serde_json::Value;

use crate::{
    api::objects::ObjectExt,
    cluster::embedded::metrics::{Answer, Metrics, QueryError},
    decide::facts::Moment,
};

/// The HPA leaves a size alone that is at most this far from right (Kubernetes: 10%).
const TOLERANCE: f64 = 0.1;
/// The one Prometheus of an embedded cluster.
const PROMETHEUS: &str = "http://prometheus.istio-system";

/// One reading of all triggers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Reading {
    /// One for each trigger.
    pub(super) wants: Vec<Wants>,
    /// Why the `ScaledObject` cannot be carried out.
    pub(super) broken: Option<String>,
}

/// What one trigger asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wants {
    /// The metric's name in the HPA: `s0-prometheus`.
    pub(super) metric: String,
    /// `AverageValue` or `Value`.
    pub(super) kind: String,
    pub(super) threshold: f64,
    /// Replicas; `None` when the value is not known.
    pub(super) replicas: Option<i64>,
    pub(super) active: bool,
}

impl Reading {
    pub(super) fn active(&self) -> bool {
        self.wants.iter().any(|w| w.active)
    }

    /// The largest trigger wins; `None` when none is known.
    pub(super) fn wanted(&self) -> Option<i64> {
        self.wants.iter().filter_map(|w| w.replicas).max()
    }
}

/// Reads every trigger of `scaler`, whose target has `replicas`.
pub(super) fn read(scaler: &Value, metrics: &Metrics, replicas: i64, now: Moment) -> Reading {
    let mut reading = Reading::default();
    for (i, trigger) in scaler.array_at("/spec/triggers").iter().enumerate() {
        match parse(trigger, i) {
            Ok(parsed) => match value(metrics, &parsed, now) {
                Ok(value) => reading.wants.push(parsed.wants(value, replicas)),
                Err(why) => {
                    tracing::debug!(scaler = scaler.name(), why, "a trigger has no value");
                    reading.wants.push(parsed.unknown());
                }
            },
            Err(why) => reading.broken = Some(why),
        }
    }
    reading
}

struct Trigger<'a> {
    metric: String,
    kind: &'a str,
    query: &'a str,
    threshold: f64,
    activation: f64,
    ignore_null: bool,
}

fn parse(trigger: &Value, i: usize) -> Result<Trigger<'_>, String> {
    let kind = trigger["type"].as_str().unwrap_or_default();
    if kind != "prometheus" {
        return Err(format!(
            "trigger {i} has type \"{kind}\": embedded clusters carry out prometheus triggers only"
        ));
    }
    let metadata = &trigger["metadata"];
    let address = metadata["serverAddress"].as_str().unwrap_or_default();
    if !address.starts_with(PROMETHEUS) {
        return Err(format!(
            "trigger {i} asks {address}: the prometheus of an embedded cluster is {PROMETHEUS}:9090"
        ));
    }
    let number = |key: &str| metadata[key].as_str().and_then(|v| v.parse::<f64>().ok());
    let threshold = number("threshold")
        .filter(|t| *t > 0.0)
        .ok_or_else(|| format!("trigger {i}: metadata.threshold must be a positive number"))?;
    Ok(Trigger {
        metric: format!("s{i}-prometheus"),
        kind: trigger["metricType"].as_str().unwrap_or("AverageValue"),
        query: metadata["query"]
            .as_str()
            .ok_or_else(|| format!("trigger {i}: metadata.query is missing"))?,
        threshold,
        activation: number("activationThreshold").unwrap_or(0.0),
        ignore_null: metadata["ignoreNullValues"].as_str() != Some("false"),
    })
}

/// The trigger's value, `None` for no data.
fn value(metrics: &Metrics, trigger: &Trigger<'_>, now: Moment) -> Result<f64, String> {
    let answer = metrics.instant(trigger.query, now);
    let value = match answer.map_err(|error: QueryError| error.to_string())? {
        Answer::Scalar(value) => Some(value),
        Answer::Vector(series) => match series.as_slice() {
            [] => None,
            [(_, value)] => Some(*value),
            _ => return Err("the query returned multiple elements".to_owned()),
        },
        Answer::Text(_) | Answer::Matrix(_) => {
            return Err("the query returned no vector".to_owned());
        }
    };
    match value.filter(|v| v.is_finite()) {
        Some(value) => Ok(value),
        None if trigger.ignore_null => Ok(0.0),
        None => Err("the query returned no value".to_owned()),
    }
}

impl Trigger<'_> {
    fn unknown(self) -> Wants {
        Wants {
            metric: self.metric,
            kind: self.kind.to_owned(),
            threshold: self.threshold,
            replicas: None,
            active: false,
        }
    }

    fn wants(self, value: f64, replicas: i64) -> Wants {
        let total = value / self.threshold;
        let current = count(replicas);
        let (ratio, wanted) = if self.kind == "Value" {
            (total, total * current)
        } else {
            (total / current.max(1.0), total)
        };
        let replicas = if (ratio - 1.0).abs() <= TOLERANCE {
            replicas
        } else {
            ceil(wanted)
        };
        Wants {
            active: value > self.activation,
            replicas: Some(replicas),
            ..self.unknown()
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "replicas stay far below 2^53")]
fn count(replicas: i64) -> f64 {
    replicas as f64
}

#[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
fn ceil(value: f64) -> i64 {
    value.ceil() as i64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn average_value_and_value_ask_for_replicas() {
        // type, value, threshold, current -> wanted
        for (kind, value, threshold, current, wanted) in [
            ("AverageValue", 3.0, "2", 2, 2),
            ("AverageValue", 18.0, "2", 1, 9),
            ("AverageValue", 4.2, "2", 2, 2),
            ("AverageValue", 0.0, "2", 2, 0),
            ("Value", 30.0, "10", 2, 6),
            ("Value", 10.5, "10", 2, 2),
        ] {
            let trigger = json!({"type": "prometheus", "metricType": kind, "metadata": {
                "serverAddress": "http://prometheus.istio-system:9090", "query": "x", "threshold": threshold}});
            let wants = parse(&trigger, 0).unwrap().wants(value, current);
            assert_eq!(
                wants.replicas,
                Some(wanted),
                "{kind} {value} {threshold} {current}"
            );
            assert_eq!(wants.active, value > 0.0);
        }
    }

    #[test]
    fn what_is_not_carried_out_is_said() {
        for (trigger, says) in [
            (
                json!({"type": "cron", "metadata": {}}),
                "trigger 0 has type \"cron\": embedded clusters carry out prometheus triggers only",
            ),
            (
                json!({"type": "prometheus", "metadata": {"serverAddress": "http://elsewhere:9090"}}),
                "trigger 0 asks http://elsewhere:9090: the prometheus of an embedded cluster is http://prometheus.istio-system:9090",
            ),
        ] {
            assert_eq!(parse(&trigger, 0).err().unwrap(), says);
        }
    }
}
