//! What a version does, read from its image tag: nothing else makes a version good or bad.

/// How pods of one image behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Ready after its start-up time; answers 200 in 120 to 180 ms.
    Healthy,
    /// `-errors`: every fifth request fails with 500.
    Errors,
    /// `-slow`: every request takes 3 s.
    Slow,
    /// `-crash`: exits soon after each start and never becomes ready.
    Crash,
    /// `-flaky`: every fifth request fails with 500 for 30 s, once, two minutes after the version became ready.
    Flaky,
    /// `-missing`: the image cannot be pulled.
    Missing,
}

/// When a `-flaky` version begins to fail, milliseconds after it became ready.
pub const FLAKY_FROM_MS: i64 = 120_000;
/// How long it fails, milliseconds.
pub const FLAKY_FOR_MS: i64 = 30_000;

/// What one request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub code: u16,
    /// Duration in milliseconds.
    pub latency_ms: u32,
}

impl Behaviour {
    /// The behaviour of `image` (`repository[:tag][@digest]`); a tag without a known ending is healthy.
    #[must_use]
    pub fn of(image: &str) -> Self {
        let name = image.split('@').next().unwrap_or_default();
        let last = name.rsplit('/').next().unwrap_or_default();
        let tag = last.split_once(':').map_or("", |(_, tag)| tag);
        match tag.rsplit('-').next().unwrap_or_default() {
            "errors" => Self::Errors,
            "slow" => Self::Slow,
            "crash" => Self::Crash,
            "flaky" => Self::Flaky,
            "missing" => Self::Missing,
            _ => Self::Healthy,
        }
    }

    /// The answer to the `n`th request of a version that has been ready for `ready_ms`.
    #[must_use]
    pub fn answer(self, n: u64, ready_ms: i64) -> Response {
        let flaking = self == Self::Flaky
            && (FLAKY_FROM_MS..FLAKY_FROM_MS + FLAKY_FOR_MS).contains(&ready_ms);
        let failing = (self == Self::Errors || flaking) && n % 5 == 4;
        Response {
            code: if failing { 500 } else { 200 },
            latency_ms: if self == Self::Slow {
                3_000
            } else {
                // 37 is prime to 61: every whole millisecond of 120..=180 comes equally often.
                120 + u32::try_from(n * 37 % 61).unwrap_or_default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_decides() {
        for (image, behaviour) in [
            ("registry.example/mcp-server:1.0.0", Behaviour::Healthy),
            ("registry.example/mcp-server", Behaviour::Healthy),
            ("registry.example:5000/mcp-server", Behaviour::Healthy),
            ("registry.example:5000/mcp-errors:2.0.0", Behaviour::Healthy),
            (
                "registry.example/mcp-server:1.1.0-errors",
                Behaviour::Errors,
            ),
            ("mcp-server:1.1.0-rc1-slow", Behaviour::Slow),
            ("mcp-server:1.1.0-crash@sha256:00", Behaviour::Crash),
            ("mcp-server:flaky", Behaviour::Flaky),
            ("mcp-server:2-missing", Behaviour::Missing),
        ] {
            assert_eq!(Behaviour::of(image), behaviour, "{image}");
        }
    }

    #[test]
    fn a_fifth_of_the_errors_image_fails() {
        let failed = (0..1_000)
            .filter(|n| Behaviour::Errors.answer(*n, 0).code == 500)
            .count();
        assert_eq!(failed, 200);
        assert_eq!(
            Behaviour::Slow.answer(4, 0),
            Response {
                code: 200,
                latency_ms: 3_000
            }
        );
    }

    #[test]
    fn flaky_fails_for_thirty_seconds_once() {
        for (ready_ms, code) in [
            (119_999, 200),
            (120_000, 500),
            (149_999, 500),
            (150_000, 200),
            (720_000, 200),
        ] {
            assert_eq!(
                Behaviour::Flaky.answer(4, ready_ms).code,
                code,
                "{ready_ms}"
            );
        }
    }

    #[test]
    fn healthy_latency_stays_between_120_and_180_ms() {
        let latencies: Vec<u32> = (0..61)
            .map(|n| Behaviour::Healthy.answer(n, 0).latency_ms)
            .collect();
        assert_eq!(latencies.iter().min(), Some(&120));
        assert_eq!(latencies.iter().max(), Some(&180));
    }
}
