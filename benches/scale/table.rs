//! The figures, as a table in Markdown.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// Rows of what was measured and what came out.
#[derive(Default)]
pub(crate) struct Table(Vec<(String, String)>);

impl Table {
    /// One figure, told at once too, since the table comes at the very end.
    pub(crate) fn row(&mut self, what: impl Into<String>, figure: impl Into<String>) {
        let (what, figure) = (what.into(), figure.into());
        eprintln!("{what}: {figure}");
        self.0.push((what, figure));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| measured | figure |\n|---|---|")?;
        self.0
            .iter()
            .try_for_each(|(what, figure)| writeln!(f, "| {what} | {figure} |"))
    }
}

/// `3.2 ms p50, 8.1 ms p99, 9.0 ms at most (200 times)`.
pub(crate) fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let Some(most) = times.last() else {
        return "never".to_owned();
    };
    // The smallest value that so many percent of all do not exceed.
    let percentile = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1];
    format!(
        "{} p50, {} p99, {} at most ({} times)",
        millis(percentile(50)),
        millis(percentile(99)),
        millis(*most),
        times.len()
    )
}

pub(crate) fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

/// Waits until `met`, and tells how long that took; what takes longer than `limit` ends the bench.
pub(crate) async fn until(what: &str, limit: Duration, mut met: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}
