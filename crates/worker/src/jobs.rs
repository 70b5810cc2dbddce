//! The jobs that a worker holds: those in work, and those answered that wait for the coordinator's receipt.
//!
//! Jobs outlive connections. Not here: how a job is worked on (`runner.rs`) and when the coordinator is told what
//! (`session_loop.rs`).

use std::{future::poll_fn, rc::Rc, task::Poll, time::Duration};

use chaarfm_protocol::{
    Failure, Halves, Job, JobRef, Outcome, Stage, ToServer,
    limits::{MAX_JOBS_PER_WORKER, MAX_NUMBERS_PER_MESSAGE},
};
use futures_util::future::{FutureExt, LocalBoxFuture};

use crate::{
    JobStatus, Platform,
    runner::{Answer, JobRunner, Progress},
    text::clip,
};

/// An answer without a receipt is sent again after this long.
const RECEIPT_TIMEOUT_SECONDS: u64 = 30;

/// Jobs in order of arrival; at most [`MAX_JOBS_PER_WORKER`].
pub(crate) struct Jobs<'a, P> {
    runner: &'a JobRunner<'a, P>,
    held: Vec<Held<'a>>,
}

struct Held<'a> {
    job: JobRef,
    label: String,
    progress: Rc<Progress>,
    work: Work<'a>,
}

enum Work<'a> {
    /// Dropping the future abandons the job.
    Going(LocalBoxFuture<'a, Answer>),
    Answered {
        answer: Answer,
        /// When the answer was last sent on this connection.
        sent_at: Option<Duration>,
    },
}

/// A finished job: its answer has a receipt.
pub(crate) struct Settled {
    pub(crate) label: String,
    /// Why there is no vector, if there is none.
    pub(crate) failure: Option<Failure>,
}

impl<'a, P: Platform> Jobs<'a, P> {
    pub(crate) fn new(runner: &'a JobRunner<'a, P>) -> Self {
        Self { runner, held: Vec::new() }
    }

    /// Takes a job, or returns its lease when there is no room. A job already held under the same lease stays as it is.
    /// Under another lease it starts again, because a job has only one lease and the old one is void.
    #[must_use = "a job that is not taken has to be handed back"]
    pub(crate) fn take(&mut self, job: Job) -> Option<JobRef> {
        if self.held.iter().any(|held| held.job == job.job) {
            return None;
        }
        self.held.retain(|held| held.job.job != job.job.job);
        if self.held.len() >= usize::from(MAX_JOBS_PER_WORKER) {
            return Some(job.job);
        }
        let label = clip(&job.track.label());
        let progress = Rc::new(Progress::new());
        let work = {
            let (runner, job, progress) = (self.runner, job.clone(), Rc::clone(&progress));
            async move { runner.work(&job, &progress).await }.boxed_local()
        };
        self.held.push(Held { job: job.job, label, progress, work: Work::Going(work) });
        None
    }

    /// Works until some job has an outcome. Dropping the future only interrupts the work.
    pub(crate) async fn finished(&mut self) {
        poll_fn(|context| {
            for held in &mut self.held {
                if let Work::Going(work) = &mut held.work
                    && let Poll::Ready(answer) = work.poll_unpin(context)
                {
                    held.work = Work::Answered { answer, sent_at: None };
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// The answers that must be sent now; they count as sent.
    pub(crate) fn answers(&mut self, now: Duration) -> Vec<ToServer> {
        let overdue = |sent_at: Duration| now.saturating_sub(sent_at).as_secs() >= RECEIPT_TIMEOUT_SECONDS;
        let mut answers = Vec::new();
        for held in &mut self.held {
            if let Work::Answered { answer, sent_at } = &mut held.work
                && sent_at.is_none_or(overdue)
            {
                *sent_at = Some(now);
                let Answer { outcome, patches, content_hash } = answer;
                answers.extend(evidence(&held.job, outcome, patches));
                let (job, outcome, content_hash) = (held.job.clone(), outcome.clone(), content_hash.clone());
                answers.push(ToServer::Result { job, outcome, content_hash });
            }
        }
        answers
    }

    /// Whether an answer waits for its receipt.
    pub(crate) fn has_answers(&self) -> bool {
        self.held.iter().any(|held| matches!(held.work, Work::Answered { .. }))
    }

    /// A message for the worker's owner; returned once.
    pub(crate) fn notice(&self) -> Option<String> {
        self.runner.notice()
    }

    /// The progress of each unanswered job.
    pub(crate) fn reports(&self) -> Vec<ToServer> {
        let report = |held: &Held<'_>| {
            let (stage, fraction) = held.progress.get();
            ToServer::Progress { job: held.job.clone(), stage, fraction }
        };
        self.going().map(report).collect()
    }

    /// All leases, for the next `hello`. Marks all answers as unsent.
    pub(crate) fn carry_over(&mut self) -> Vec<JobRef> {
        for held in &mut self.held {
            if let Work::Answered { sent_at, .. } = &mut held.work {
                *sent_at = None;
            }
        }
        self.held.iter().map(|held| held.job.clone()).collect()
    }

    /// Drops a job that has its receipt or is no longer wanted. None if it is not held.
    pub(crate) fn settle(&mut self, job: &JobRef) -> Option<Settled> {
        let position = self.held.iter().position(|held| held.job == *job)?;
        let held = self.held.remove(position);
        let failure = match held.work {
            Work::Answered { answer: Answer { outcome: Outcome::Failed(failure), .. }, .. } => Some(failure),
            Work::Answered { .. } | Work::Going(_) => None,
        };
        Some(Settled { label: held.label, failure })
    }

    /// Whether a job is in analysis.
    pub(crate) fn is_analysing(&self) -> bool {
        self.going().any(|held| held.progress.get().0 == Stage::Analysing)
    }

    /// Abandons every unanswered job.
    pub(crate) fn give_up(&mut self) {
        self.held.retain(|held| matches!(held.work, Work::Answered { .. }));
    }

    /// The unanswered jobs for the display, the one in analysis first.
    pub(crate) fn statuses(&self) -> Vec<JobStatus> {
        let status = |held: &Held<'_>| {
            let (stage, fraction) = held.progress.get();
            JobStatus { label: held.label.clone(), stage, fraction }
        };
        let mut statuses: Vec<JobStatus> = self.going().map(status).collect();
        statuses.sort_by_key(|job| job.stage != Stage::Analysing);
        statuses
    }

    fn going(&self) -> impl Iterator<Item = &Held<'a>> {
        self.held.iter().filter(|held| matches!(held.work, Work::Going(_)))
    }
}

/// The messages with the patches that prove a vector; no patch is split between two messages.
fn evidence(job: &JobRef, outcome: &Outcome, patches: &Halves) -> Vec<ToServer> {
    let Outcome::Done(vector) = outcome else { return Vec::new() };
    let length = vector.embedding.len().max(1);
    let per_message = (MAX_NUMBERS_PER_MESSAGE / length).max(1);
    let messages = patches.0.chunks(per_message * length).enumerate().map(|(index, numbers)| ToServer::Patches {
        job: job.clone(),
        first: (index * per_message) as u32,
        length: length as u16,
        embeddings: Halves(numbers.to_vec()),
    });
    messages.collect()
}
