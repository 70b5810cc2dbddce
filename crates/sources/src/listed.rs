//! Files invented by a test.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use chaarfm_domain::Found;
use futures_util::future::BoxFuture;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{Opened, Source, Unavailable, Visit, WalkEnd, Wanted};

/// Files invented by a test. They can be found but not opened.
#[derive(Debug)]
pub struct Listed {
    /// The files, in the order a walk finds them.
    pub files: Vec<Found>,
    /// How long a walk takes for each file.
    pub pause: Duration,
}

impl Listed {
    async fn walk(&self, visits: &mpsc::Sender<Visit>) -> WalkEnd {
        for found in &self.files {
            sleep(self.pause).await;
            if visits.send(Visit::File(found.clone())).await.is_err() {
                return WalkEnd::Stopped;
            }
        }
        WalkEnd::Complete
    }
}

impl Source for Listed {
    fn identity(&self) -> String {
        "listed:".to_owned()
    }

    fn names(&self) -> (Option<String>, Option<String>) {
        (None, None)
    }

    fn discover(self: Arc<Self>, visits: mpsc::Sender<Visit>, stop: CancellationToken) -> BoxFuture<'static, WalkEnd> {
        Box::pin(async move { stop.run_until_cancelled(self.walk(&visits)).await.unwrap_or(WalkEnd::Stopped) })
    }

    fn resolve<'a>(&'a self, _file: &'a str) -> BoxFuture<'a, Option<Url>> {
        Box::pin(async { None })
    }

    fn open<'a>(
        &'a self,
        _wanted: Wanted<'a>,
        _part: Option<RangeInclusive<u64>>,
    ) -> BoxFuture<'a, Result<Opened, Unavailable>> {
        Box::pin(async { Err(Unavailable::OutOfReach("is nowhere".to_owned())) })
    }
}
