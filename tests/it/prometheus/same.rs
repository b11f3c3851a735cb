//! When two answers of Prometheus are the same.

use std::collections::BTreeMap;

use serde_json::Value;

/// Relative distance of two values that are the same: both sum floats, each in an order of its own.
const NEAR: f64 = 1e-9;

/// What tells two answers apart; `None` when they are the same. The text of an error is each one's own.
pub(super) fn difference(ours: (u16, &[u8]), real: (u16, &[u8])) -> Option<String> {
    let bodies = [ours, real].map(|(_, body)| -> Value {
        serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into())
    });
    let [ours_is, real_is] = &bodies;
    let shape = |body: &Value| {
        let of = |pointer: &str| body.pointer(pointer).cloned();
        [of("/status"), of("/errorType"), of("/data/resultType")]
    };
    let same = ours.0 == real.0
        && shape(ours_is) == shape(real_is)
        && series(ours_is).len() == series(real_is).len()
        && series(ours_is)
            .iter()
            .zip(&series(real_is))
            .all(|(ours, real)| ours.0 == real.0 && near(ours.1, real.1));
    (!same).then(|| format!("ours {} {ours_is}\nreal {} {real_is}", ours.0, real.0))
}

/// Each series by its labels, with its points (seconds, value). The order of a vector's series is nobody's promise.
fn series(body: &Value) -> BTreeMap<String, Vec<(f64, f64)>> {
    let result = &body["data"]["result"];
    match body["data"]["resultType"].as_str() {
        Some("vector" | "matrix") => {
            let all = result.as_array().unwrap().iter();
            all.map(|one| {
                let points = match one["values"].as_array() {
                    Some(points) => points.iter().map(point).collect(),
                    None => vec![point(&one["value"])],
                };
                (one["metric"].to_string(), points)
            })
            .collect()
        }
        Some("scalar") => BTreeMap::from([(String::new(), vec![point(result)])]),
        _ => BTreeMap::new(),
    }
}

fn point(point: &Value) -> (f64, f64) {
    let value = point[1].as_str().unwrap().parse().unwrap();
    (point[0].as_f64().unwrap(), value)
}

fn near(ours: &[(f64, f64)], real: &[(f64, f64)]) -> bool {
    let both = || ours.iter().zip(real);
    ours.len() == real.len()
        && both().all(|(a, b)| a.0.to_bits() == b.0.to_bits() && close(a.1, b.1))
}

fn close(a: f64, b: f64) -> bool {
    if a.is_finite() && b.is_finite() {
        (a - b).abs() <= NEAR * a.abs().max(b.abs())
    } else {
        a.is_nan() && b.is_nan() || a.to_bits() == b.to_bits()
    }
}

#[test]
fn answers_are_told_apart() {
    let vector = |value: &str| {
        format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{"a":"b"}},"value":[1.5,"{value}"]}}]}}}}"#
        )
    };
    let differs = |ours: &str, real: &str| {
        difference((200, ours.as_bytes()), (200, real.as_bytes())).is_some()
    };
    let ten = vector("10");
    assert!(!differs(&ten, &vector("10.000000001")));
    assert!(differs(&ten, &vector("10.0000001")));
    assert!(!differs(&vector("NaN"), &vector("NaN")));
    assert!(differs(&vector("NaN"), &ten));
    assert!(!differs(&vector("+Inf"), &vector("+Inf")));
    assert!(differs(&vector("+Inf"), &vector("-Inf")));
    assert!(differs(&vector("+Inf"), &ten));
    assert!(differs(&ten, &ten.replace("\"b\"", "\"c\"")));
    assert!(differs(&ten, &ten.replace("1.5", "1.6")));
    assert!(differs(
        &ten,
        r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#
    ));
    assert!(difference((200, ten.as_bytes()), (422, ten.as_bytes())).is_some());
}
