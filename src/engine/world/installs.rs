//! Kinds that a cluster does not serve, until somebody installs them.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::World;
use crate::{
    api::objects::{CUSTOM_RESOURCE_DEFINITION, Kind},
    cluster::{
        form::Mark,
        watch::{Scope, Watch},
    },
};

/// Wait before the served kinds are looked at again after a definition has changed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How often they are: a kind is served moments after its definition is there, or in another version than ours and then not at all.
const LOOKS: usize = 12;

impl World {
    /// Watches for what is missing, and begins to watch what it defines when it is served. Of a cluster where everything is installed
    /// nothing is asked.
    pub(in crate::engine) async fn follow_installs(&self) {
        let news = Arc::new(Notify::new());
        loop {
            let missing = self.missing();
            if missing.is_empty() {
                std::future::pending::<()>().await;
            }
            // Open until something has come: by name, since a definition's metadata can be as large as its schema.
            let _open: Vec<Watch<Mark>> =
                missing.iter().map(|k| self.definition(k, &news)).collect();
            self.until_served(missing.len(), &news).await;
        }
    }

    fn definition(&self, kind: &Kind, news: &Arc<Notify>) -> Watch<Mark> {
        let news = news.clone();
        let scope = Scope {
            fields: Some(format!("metadata.name={}.{}", kind.plural, kind.group)),
            ..Scope::default()
        };
        let listener = move |_: &str, _: &str, _: &Mark| news.notify_one();
        self.cluster()
            .watch_as(&CUSTOM_RESOURCE_DEFINITION, scope, Box::new(listener))
    }

    /// Returns when fewer kinds are missing.
    async fn until_served(&self, missing: usize, news: &Notify) {
        loop {
            news.notified().await;
            for _ in 0..LOOKS {
                if let Ok(installed) = self.cluster().installed().await {
                    self.now_served(&installed);
                    self.look_at_gateway_api().await;
                }
                if self.missing().len() < missing {
                    return;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}
