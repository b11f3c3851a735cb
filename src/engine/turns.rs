//! [`Turns`]: questions to many clusters at once, without a crowd, and without one that hangs holding up the others.

use std::{pin::pin, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use crate::cluster::Error;

/// Clusters that are asked at the same time, by all calls of this process together. Each gets a handful of requests.
const AT_ONCE: usize = 64;
/// A cluster that has not answered for so long goes on without a turn, so that the next one begins: of 200 clusters the last one's turn
/// comes after a third of a second even where none answers.
const GIVES_WAY: Duration = Duration::from_millis(100);

/// Until when an answer over many clusters waits for any of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    at: Instant,
    within: Duration,
}

impl Limit {
    /// From now on.
    pub(super) fn new(within: Duration) -> Self {
        Self {
            at: Instant::now() + within,
            within,
        }
    }

    /// From now on, but not beyond this one.
    pub(super) fn shorter(self, within: Duration) -> Self {
        let shorter = Self::new(within);
        if shorter.at < self.at { shorter } else { self }
    }

    /// The answer, or why there is none.
    pub(super) async fn ask<T>(
        self,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, String> {
        match timeout_at(self.at, call).await {
            Ok(answer) => answer.map_err(|error| error.report()),
            Err(_) => Err(self.late()),
        }
    }

    pub(super) fn late(self) -> String {
        format!("no answer within {:?}", self.within)
    }
}

/// Whose turn it is.
pub(super) struct Turns(Semaphore);

impl Turns {
    pub(super) fn new() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }

    /// Asks when there is a turn; `None` when there was none in time. The question bounds itself.
    pub(super) async fn ask<T>(
        &self,
        limit: Limit,
        question: impl Future<Output = T>,
    ) -> Option<T> {
        let turn = timeout_at(limit.at, self.0.acquire()).await.ok()?;
        let mut question = pin!(question);
        if let Ok(answer) = timeout(GIVES_WAY, &mut question).await {
            return Some(answer);
        }
        drop(turn);
        Some(question.await)
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_hangs_holds_nobody_up() {
        let turns = Turns::new();
        let began = Instant::now();
        let limit = Limit::new(Duration::from_millis(1_500));
        // 150 hang, and then 50 that answer in 40 ms.
        let hangs = (0..150).map(|_| turns.ask(limit, tokio::time::sleep_until(limit.at)));
        let answers = (0..50).map(|_| {
            turns.ask(limit, async {
                tokio::time::sleep(Duration::from_millis(40)).await;
                began.elapsed()
            })
        });
        let (_, answered) = futures::join!(join_all(hangs), join_all(answers));
        let slowest = answered.into_iter().flatten().max();
        // 64 and 64 hang for 100 ms each; 22 more and 42 that answer begin then, and the other 8 when these have.
        assert_eq!(slowest, Some(Duration::from_millis(280)));
        assert_eq!(began.elapsed(), Duration::from_millis(1_500));
    }

    #[tokio::test(start_paused = true)]
    async fn whose_turn_never_comes_is_told_in_time() {
        let turns = Turns::new();
        let limit = Limit::new(Duration::from_millis(50));
        let late = limit.at + Duration::from_secs(1);
        let asked = (0..=AT_ONCE).map(|_| turns.ask(limit, tokio::time::sleep_until(late)));
        let asked = join_all(asked).await;
        assert_eq!(asked.iter().filter(|asked| asked.is_none()).count(), 1);
    }
}
