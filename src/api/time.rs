//! [`Moment`]s as text.

use jiff::Timestamp;

use crate::decide::facts::Moment;

/// RFC 3339 in UTC, with as many digits of a second as there are: `2026-07-21T10:00:00Z`, `2026-07-21T10:00:00.25Z`.
#[must_use]
pub fn rfc3339(moment: Moment) -> String {
    Timestamp::from_millisecond(moment.0)
        .unwrap_or(if moment.0 < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
        .to_string()
}

/// Reads RFC 3339 to the millisecond; `None` for anything else.
#[must_use]
pub fn moment(text: &str) -> Option<Moment> {
    text.parse::<Timestamp>()
        .ok()
        .map(|t| Moment(t.as_millisecond()))
}

/// Milliseconds of a duration as Go writes it (`90s`, `1m30s`, `1h`, `1.5h`, `500ms`); `None` for anything else.
#[must_use]
pub fn duration(text: &str) -> Option<i64> {
    let go = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'h' | 'm' | 's' | 'u' | 'n' | 'µ');
    if !text.chars().all(go) {
        return None;
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        let tail = &rest[digits..];
        let unit = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        total += number
            * match &tail[..unit] {
                "h" => 3_600_000.0,
                "m" => 60_000.0,
                "s" => 1000.0,
                "ms" => 1.0,
                "us" | "µs" => 1e-3,
                "ns" => 1e-6,
                _ => return None,
            };
        rest = &tail[unit..];
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float's cast saturates, and whole milliseconds are wanted"
    )]
    (!text.is_empty()).then_some(total.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_go_to_text_and_back() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_784_628_000_000, "2026-07-21T10:00:00Z"),
            (1_784_628_000_250, "2026-07-21T10:00:00.25Z"),
        ] {
            assert_eq!(rfc3339(Moment(ms)), text);
            assert_eq!(moment(text), Some(Moment(ms)));
        }
        assert_eq!(
            moment("2026-07-21T12:00:00+02:00"),
            Some(Moment(1_784_628_000_000))
        );
        assert_eq!(moment("yesterday"), None);
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, ms) in [
            ("10s", Some(10_000)),
            ("1m", Some(60_000)),
            ("1m30s", Some(90_000)),
            ("1h", Some(3_600_000)),
            ("1.5h", Some(5_400_000)),
            ("500ms", Some(500)),
            ("0s", Some(0)),
            ("", None),
            ("60", None),
            ("1d", None),
            ("1m xyz", None),
            ("-5s", None),
            ("s", None),
        ] {
            assert_eq!(duration(text), ms, "{text}");
        }
    }
}
